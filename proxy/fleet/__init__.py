"""What the gateway knows of its upstreams at the moment; what is configured is in the snapshot."""
