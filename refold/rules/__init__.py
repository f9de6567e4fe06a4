"""Rules: from the plain Python function a user writes to a fold that is the same compiled and interpreted.

In order: `source` reads the syntax tree, `purity` refuses what could differ between runs (`constants` admits outside
values), `flow` finds columns and lineage, `paths` finds missing answers, and `fingerprint` identifies the rule.
`expressions`, `lowering` and `kernel` compile it; `interpreter` (with `values`) is the specification; `rule` joins all.
Rules know column types and nothing of logs, states or sinks.
"""

from refold.rules.outcome import NOT_FOLDED, FoldResult, Ignored, Outcome, Rejection, ignore, reject
from refold.rules.rule import Rule

__all__ = ["NOT_FOLDED", "FoldResult", "Ignored", "Outcome", "Rejection", "Rule", "ignore", "reject"]
