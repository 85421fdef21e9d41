"""Refuse phrases that the field does not use, in the prose, docstrings, comments and messages of this repository.

Run from its root: ``python tools/phrases.py``.
"""

import re
import sys
from pathlib import Path

WHERE = (
    *("*.md", "book/*.md", "book/api/*.md", "data/*.yml"),
    *("embedllm/**/*.py", "notebooks/*.py", "benchmarks/*.py"),
)

INSTEAD = {
    r"rightly|wrongly": "correctly, incorrectly",
    r"(right|wrong|right or wrong|right and wrong) answers?": "correct answer, incorrect answer",
    r"(answer|router|model) (is|was|being) (right|wrong)": "correct, incorrect",
    r"single best": "best single model",
    r"best( model)? of (each |the |a )?benchmark": "best model per benchmark",
    r"planted|plants? (a|the) (truth|structure)": "ground truth (simulated)",
    r"repeated rows|repeats of rows": "duplicated rows",
    r"not seen cells|holes in|without holes": "missing entries, unobserved",
    r"question weights": "model directions",
    r"order of models": "pairwise ranking accuracy",
    r"specialit(y|ies)": "specialization",
    r"at hand": "precomputed, available",
    r"out of reach": "not available",
    r"by heart": "overfit",
    r"leav\w+ (a|each|one) benchmark out": "leave-one-benchmark-out",
    r"so said": "stated without a value",
    r"who answers what": "which model answers which question correctly",
    r"published figures?": "published values; a figure is a picture",
    r"foretell\w*|foretold": "predict, forecast",
    r"in earnest|to and fro": "plain words",
}


def found(text: str) -> list[str]:
    """Return the line, the text and the remedy of each phrase, which may go on in the next line of a comment."""
    problems = []
    for phrase, instead in INSTEAD.items():
        pattern = rf"\b(?:{phrase})\b".replace(" ", r"\s+(?:#\s*)?")
        for match in re.finditer(pattern, text, re.IGNORECASE):
            problems.append(f"{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}: write {instead}")
    return problems


def main() -> int:
    """Print what is to be changed, and tell whether there is anything."""
    problems = []
    for path in sorted({path for pattern in WHERE for path in Path().glob(pattern)}):
        problems += [f"{path}:{phrase}" for phrase in found(path.read_text(encoding="utf-8"))]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
