"""The kinds of stores, one module each: folded by a rule, the latest row of each key, computed by a query.

Put a new kind here, or in a module of your own: it implements the interface in `refold.stores.declaration`, and nothing
else in Refold names it. `plain` holds what the reference fold may use of a kind.
Before it: the base in `refold.stores.declaration`. After it: building, proof, plans and the rest, which use it.
"""
