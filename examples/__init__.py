"""Examples that run as they stand: a made-up shop to try the project on."""
