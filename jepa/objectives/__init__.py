"""The methods, one file each: an objective holds networks and turns a batch into a loss, or into what probes judge."""
