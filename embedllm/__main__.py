"""The command line: `python -m embedllm COMMAND`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 1, with one line on stderr, where the input is at fault."""
    parser = argparse.ArgumentParser(
        prog="python -m embedllm", description="Bring, fit and route with your own models."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_import(commands)
    _add_fit(commands)
    _add_route(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, KeyError) as error:
        # A KeyError shows its message in quotes.
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    return 0


def _add_import(commands: Any) -> None:
    parser = commands.add_parser("import", help="turn results of evaluations into a data set")
    forms = parser.add_subparsers(required=True, metavar="FORM")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("source", metavar="SOURCE", help="file or folder with the results")
    shared.add_argument("--out", metavar="DIR", required=True, help="folder to write the data set in; must be new")
    _add_encoder(shared)

    long = forms.add_parser("long", parents=[shared], help="the authors' long form: a row for each answer")
    long.add_argument("--duplicates", metavar="RULE", help="majority (the default), any, last, rows or error")
    wide = forms.add_parser("wide", parents=[shared], help="a row for each question, a column for each model")
    wide.add_argument("--prompt", dest="prompt_column", metavar="COL", help="default: prompt")
    wide.add_argument("--benchmark", dest="benchmark_column", metavar="COL", help="default: benchmark")
    wide.add_argument("--id", dest="id_column", metavar="COL", help="default: prompt_id, else the number of the row")
    wide.add_argument("--ignore", action="append", metavar="COL", help="a column that is no model; may be repeated")
    lm_eval = forms.add_parser("lm-eval", parents=[shared], help="sample logs of the lm-evaluation-harness")
    lm_eval.add_argument("--metric", help="default: the first of acc, exact_match and acc_norm")
    lm_eval.add_argument("--filter", help="which filter counts in files that hold several, such as strict-match")
    resolved = forms.add_parser("resolved", parents=[shared], help="a list of resolved ids for each model")
    resolved.add_argument("--questions", metavar="FILE", required=True, help="id and prompt of every question")
    for name, form in (("long", long), ("wide", wide), ("lm_eval", lm_eval), ("resolved", resolved)):
        form.set_defaults(run=_import, importer=f"import_{name}")


def _import(options: argparse.Namespace) -> None:
    from embedllm.datasets import importers

    # Options are called as the parameters are; the importer has the defaults.
    given = {name: value for name, value in vars(options).items() if value is not None}
    del given["run"]
    matrix = getattr(importers, given.pop("importer"))(given.pop("source"), given.pop("out"), **given)
    print(matrix)
    if len(matrix.report_):
        print(matrix.report_.to_string(index=False))
    print(f"data set written to {options.out}; load it with load_dataset({options.out!r})")


def _add_encoder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoder",
        metavar="DIR_OR_ID",
        help="a Hub id, or a local folder with the encoder; the Hub is asked only if no folder is named",
    )
    parser.add_argument("--device", default="auto", help="'auto', 'cpu' or 'cuda' (default: %(default)s)")


def _add_fit(commands: Any) -> None:
    parser = commands.add_parser("fit", help="fit a router to all answers of a data set")
    parser.add_argument(
        "dataset", metavar="DATASET", help="a named data set, such as 'mmlu-pro', or a folder in the long form"
    )
    parser.add_argument("--router", metavar="DIR", required=True, help="folder to save the router in")
    _add_encoder(parser)
    parser.add_argument("--dim", type=int, default=232, help="size of a model embedding (default: %(default)s)")
    parser.add_argument("--alpha", type=_number, default="auto", help="noise of the training, or 'auto', the default")
    parser.add_argument("--solver", default="exact", help="'exact', or 'sgd' as in the paper (default: %(default)s)")
    parser.add_argument("--prior", help="'pool' lets models with few answers borrow from the others (default: none)")
    parser.add_argument("--seed", type=int, default=0, help="of 'sgd' (default: %(default)s)")
    parser.set_defaults(run=_fit)


def _number(text: str) -> float | str:
    """Return a number; what is none is left for the fit to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


def _fit(options: argparse.Namespace) -> None:
    from embedllm.datasets.encoder import DEFAULT_ENCODER
    from embedllm.datasets.load import load_dataset
    from embedllm.predictors.distributed import own_share, process_group, rank
    from embedllm.predictors.mf import MatrixFactorization
    from embedllm.router import Router

    with process_group(options.device):
        matrix = load_dataset(options.dataset)
        factorization = MatrixFactorization(
            dim=options.dim,
            alpha=options.alpha,
            solver=options.solver,
            prior=options.prior,
            device=options.device,
            random_state=options.seed,
        )
        encoder = options.encoder or DEFAULT_ENCODER
        router = Router.fit(own_share(matrix), encoder=encoder, factorization=factorization, device=options.device)
        number, n_processes = rank()
        if number == 0:
            router.save(options.router)
            print(f"{matrix!r}\nrouter saved in {options.router}; encoder: {router.encoder.name}")
            if n_processes > 1:
                print(f"fitted by {n_processes} processes, each with its share of the questions")


def _add_route(commands: Any) -> None:
    parser = commands.add_parser("route", help="choose a model for each question")
    parser.add_argument("questions", metavar="QUESTION", nargs="+")
    parser.add_argument("--router", metavar="DIR", required=True, help="folder that a router was saved in")
    _add_encoder(parser)
    parser.set_defaults(run=_route)


def _route(options: argparse.Namespace) -> None:
    from embedllm.router import Router

    print(_table(Router.load(options.router, options.encoder, options.device).route(options.questions)))


def _table(routes: pd.DataFrame) -> str:
    """Routes as text, each on a line of the terminal: questions are shortened to the room that is left."""
    right, runner_up_right = (
        [f"{value:.3f}" if value == value else "-" for value in routes[name]]  # NaN in a pool of one model
        for name in ("probability", "runner_up_probability")
    )
    runner_up = routes["runner_up"].fillna("-")
    columns = [["model", *routes["model"]], ["right", *right], ["runner-up", *runner_up], ["right", *runner_up_right]]
    widths = [max(map(len, column)) for column in columns]
    room = max(20, shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths))
    texts = [" ".join(question.split()) for question in routes["question"]]
    questions = ["question", *(text if len(text) <= room else f"{text[: room - 3]}..." for text in texts)]
    lines = [zip(row, (room, *widths), strict=True) for row in zip(questions, *columns, strict=True)]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in line).rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
