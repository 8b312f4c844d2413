"""A whole instance on virtual time: the real controller, router and wire protocol on a make-believe machine.

Only what lies outside our code is imitated: time (`loop`), links (`network`), the disk (`disk`), processes and the node
that starts them (`machine`, `children`). `scenario` draws what users and faults do from a seed, `watch` checks the
invariants after every event. It must not know how anything is decided, or it would find its own mistakes right.
"""
