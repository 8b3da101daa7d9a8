"""Where raw data comes from that DVC itself cannot fetch."""
