"""What probes ask for: one file a target."""
