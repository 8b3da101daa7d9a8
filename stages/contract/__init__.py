"""What all stages share: settings, the manifest, parts, errors and the runner."""
