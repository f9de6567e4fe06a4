"""What users need to test their own stores and sinks; import the module you need, since some need pytest."""
