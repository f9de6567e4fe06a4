"""The command line `refold`: click for its words, rich for its tables; all work is the engine's."""
