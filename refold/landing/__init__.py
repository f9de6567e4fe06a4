"""Landing: where somebody else's tool puts raw files, and the decoders that turn them into rows and bad records."""
