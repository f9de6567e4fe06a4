"""Derived stores: how they are declared, and the state, ledger and checkpoint of each."""
