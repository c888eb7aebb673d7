"""What may be said on the bus: a module per worker, no behaviour. Pure."""
