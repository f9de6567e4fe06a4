"""Storage: objects behind a URL, and the records written to them.

Put object stores, their wrappers, and the forms and names of stored objects here. What an object means to a log, a
store or a proof belongs to that room.
Before it: `refold.errors`. After it: every room that reads or writes.
"""
