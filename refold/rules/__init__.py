"""Rules: from the plain Python function a user writes to a fold that is the same compiled and interpreted.

The way of a rule: `source` reads its syntax tree, `purity` refuses what could differ between runs (with `constants`,
the outside values it admits), `flow` finds columns and lineage, `paths` missing answers, `fingerprint` what it is;
`expressions`, `lowering` and `kernel` compile it, `interpreter` (with `values`) is the specification, and `rule` holds
all of it together. Rules know column types and nothing of logs, states or sinks.
"""

from refold.rules.outcome import NOT_FOLDED, FoldResult, Ignored, Outcome, Rejection, ignore, reject
from refold.rules.rule import Rule

__all__ = ["NOT_FOLDED", "FoldResult", "Ignored", "Outcome", "Rejection", "Rule", "ignore", "reject"]
