"""What every stage shares: settings, the manifest, parts, errors and the runner."""
