"""What is known of the tasks of the lm-evaluation-harness: what counts, and which fields hold the question."""

from __future__ import annotations

# The two Open LLM Leaderboards and the generation tasks, as their YAML files in lm_eval/tasks have them.
METRIC_OF = {
    "leaderboard_bbh*": "acc_norm",
    "leaderboard_gpqa*": "acc_norm",
    "leaderboard_musr*": "acc_norm",
    "leaderboard_math*": "exact_match",
    "leaderboard_mmlu_pro": "acc",
    "*ifeval*": "prompt_level_strict_acc",
    "arc_*": "acc_norm",
    "hellaswag*": "acc_norm",
    "humaneval*": "pass@1",
    "mbpp*": "pass_at_1",
    "drop*": "em",
    "coqa*": "em",
}
"""Patterns of task names to the metric that counts, where a sample has it."""

_FIELDS = {
    "question": "arc_* truthfulqa* gsm8k* gsm_plus* mgsm* triviaqa* nq_open* webqs* commonsense_qa*",
    "question options": "leaderboard_mmlu_pro* mmlu_pro*",
    "question choices": "mmlu*",
    "question opa opb opc opd": "medmcqa*",
    "passage question": "drop* boolq*",
    "context question": "social_iqa*",
    "context question options": "logiqa*",
    "support question": "sciq*",
    "body question": "asdiv*",
    "narrative question choices": "leaderboard_musr*",
    "Question": "aime* *gpqa*",  # the choices of the latter are shuffled
    "question_stem": "openbookqa*",
    "problem": "leaderboard_math* minerva_math* hendrycks_math*",
    "Problem": "mathqa*",
    "input": "leaderboard_bbh* bbh*",
    "prompt": "*ifeval* humaneval* mbpp_plus*",
    "text": "mbpp*",
    "query": "hellaswag*",
    "sentence": "winogrande*",
    "goal": "piqa*",
}
PROMPT_OF = {pattern: tuple(fields.split()) for fields, patterns in _FIELDS.items() for pattern in patterns.split()}
"""Patterns of task names to the fields of `doc` that their templates show."""

KEY_OF = {"*gpqa*": "Question"}
"""Patterns of task names to the field of `doc` that tells questions apart, where choices are shuffled for each run."""
