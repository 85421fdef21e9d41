"""The command line: `python -m embedllm COMMAND`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMATS = ("table", "csv", "json", "jsonl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; on any error, the exit status is 1 (130 after Ctrl-C) and stderr has one line.

    `--debug`, anywhere on the line, shows the traceback instead.
    """
    anywhere = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    anywhere.add_argument("--debug", action="store_true", help="show the traceback of an error")
    anywhere.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="raise a limit on what is read of a file: row, columns, memory, expanded (bytes), ratio or depth; may be "
        "repeated",
    )
    parser = argparse.ArgumentParser(
        prog="python -m embedllm",
        description="Import answers of your own models, fit a router to them, route questions.",
        epilog="These options may stand anywhere.",
        parents=[anywhere],
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_import(commands)
    _add_evaluate(commands)
    _add_fit(commands)
    _add_route(commands)
    shared, rest = anywhere.parse_known_args(arguments)
    options, further = parser.parse_known_args(rest)
    if further and options.run is not _import_recognized:
        parser.error(f"unrecognized arguments: {' '.join(further)}")
    try:
        with _limits(shared.limit):
            if options.run is _import_recognized:
                _import_recognized(options, parser, further)
            else:
                options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if shared.debug:
            raise
        # A KeyError shows its message in quotes.
        message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
        if not (message and isinstance(error, (OSError, ValueError, KeyError, ModuleNotFoundError))):
            message = f"{type(error).__name__}: {message} (--debug shows the traceback)"
        print(f"error: {_printable(message)}", file=sys.stderr)
        return 1
    return 0


def _limits(given: list[str]) -> AbstractContextManager[None]:
    from embedllm._support.files import reading_limits

    pairs = (text.partition("=") for text in given)
    return reading_limits(**{name: int(value) if value.isdecimal() else 0 for name, _, value in pairs})


def _add_import(commands: Any) -> None:
    parser = commands.add_parser("import", help="turn results of evaluations into a data set")
    forms = parser.add_subparsers(required=True, metavar="FORMAT")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("source", metavar="SOURCE", help="file or folder with the results")
    shared.add_argument("--out", metavar="DIR", required=True, help="folder to write the data set in; must be new")
    shared.add_argument(
        "--strict", action="store_true", help="fail where there is a choice to make, as between two labels of an answer"
    )
    shared.add_argument("--dry-run", action="store_true", help="report only: encode and write nothing")
    _add_encoder(shared, "the paper's, all-mpnet-base-v2")
    duplicates: dict[str, Any] = {
        "metavar": "RULE",
        "help": "which label of several counts: majority (the default), any, last, rows, error",
    }

    long = forms.add_parser("long", parents=[shared], help="the authors' long form: a row for each answer")
    long.add_argument("--duplicates", **duplicates)
    wide = forms.add_parser(
        "wide", parents=[shared], help="a table with a row for each question, a column for each model"
    )
    wide.add_argument("--prompt", dest="prompt_column", metavar="COL", help="the text of the question; default: prompt")
    wide.add_argument("--benchmark", dest="benchmark_column", metavar="COL", help="its benchmark; default: benchmark")
    wide.add_argument("--id", dest="id_column", metavar="COL", help="its id; default: prompt_id, else the row number")
    wide.add_argument(
        "--ignore", action="append", metavar="COL", help="a column that is not a model, or a pattern; may be repeated"
    )
    wide.add_argument("--threshold", type=float, metavar="SCORE", help="a score from here on is correct")
    lm_eval = forms.add_parser("lm-eval", parents=[shared], help="sample logs of the lm-evaluation-harness")
    named: dict[str, Any] = {"action": "append", "metavar": "[TASK=]NAME"}
    lm_eval.add_argument(
        "--metric", help="the metric that says what is correct; may be repeated, as the next three", **named
    )
    lm_eval.add_argument("--filter", help="which filter counts in files with several, such as strict-match", **named)
    lm_eval.add_argument("--prompt-field", help="field of doc with the question", **named)
    lm_eval.add_argument(
        "--key-field", help="field of doc that tells questions apart, if runs shuffle choices", **named
    )
    lm_eval.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="a score from here on is correct; without it, tasks with fractions are left out",
    )
    lm_eval.add_argument(
        "--one-model-a-folder", action="store_true", help="runs in a folder without results files are of one model"
    )
    resolved = forms.add_parser("resolved", parents=[shared], help="reports of SWE-bench, or lists of resolved ids")
    resolved.add_argument(
        "--questions", metavar="FILE", required=True, help="prompt_id (or instance_id) and prompt of every question"
    )
    resolved.add_argument(
        "--errors", metavar="RULE", help="what an error counts as: incorrect (the default) or 'not observed'"
    )
    resolved.add_argument(
        "--run-id", metavar="RUN", help="in the names MODEL.RUN.json; default: what follows the last dot"
    )
    logs = argparse.ArgumentParser(add_help=False, parents=[shared])
    logs.add_argument("--metric", help="which metric or scorer counts where a task has several", **named)
    logs.add_argument("--threshold", type=float, metavar="SCORE", help="a score from here on is correct")
    logs.add_argument(
        "--errors", metavar="RULE", help="what an error counts as: 'not observed' (the default) or incorrect"
    )
    logs.add_argument("--duplicates", **duplicates)
    forms.add_parser("every-eval-ever", parents=[logs], help="records of Every Eval Ever")
    forms.add_parser("inspect", parents=[logs], help="logs of inspect_ai")
    for name, form in forms.choices.items():
        form.set_defaults(run=_import, form=name)
    auto = forms.add_parser(
        "auto",
        usage="%(prog)s [-h] SOURCE --out DIR [OPTION ...]",
        help="any of these: the format is recognized",
        epilog="Options follow SOURCE. `import FORMAT --help` lists those of the format that is recognized.",
    )
    auto.add_argument("source", metavar="SOURCE", help="file or folder with the results")
    auto.set_defaults(run=_import_recognized)


def _import_recognized(options: argparse.Namespace, parser: argparse.ArgumentParser, further: list[str]) -> None:
    from embedllm.datasets.importers import existing
    from embedllm.datasets.recognize import recognize

    found = recognize(existing(options.source))
    print(_printable(f"recognized as `{found.command}`: {found.because}"))
    again = parser.parse_args(["import", found.form, str(found.source), *further])
    for name, value in found.options.items():
        if getattr(again, name) is None:
            setattr(again, name, value)
    _import(again)


def _import(options: argparse.Namespace) -> None:
    from embedllm.datasets.recognize import IMPORTERS

    # Options are called as the parameters are; the importer has the defaults.
    own = vars(options).keys() - {"run", "debug", "limit"}
    given = {name: value for name, value in vars(options).items() if value is not None and name in own}
    matrix = IMPORTERS[given.pop("form")](given.pop("source"), given.pop("out"), **given)
    print(_printable(matrix))
    *lines, account = matrix.report_.itertuples(index=False)
    for line in lines:
        print(f"{line.count:12,}  {_printable(f'{line.what}: {line.rule}')}")
    print(f"{account.count:,} {_printable(f'{account.what} {account.rule}')}")
    if options.dry_run:
        print("dry run: nothing was encoded or written")
    else:
        print(_printable(f"data set written to {options.out}; load it with load_dataset({options.out!r})"))


def _add_encoder(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--encoder",
        metavar="DIR_OR_ID",
        help=f"a local folder with the encoder, or, if there is no such folder, a Hub id; default: {default}",
    )
    parser.add_argument("--device", default="auto", help="'auto', 'cpu' or 'cuda' (default: %(default)s)")


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate", help="is routing worth it on a data set: a router beside the baselines, on held-out questions"
    )
    parser.add_argument("dataset", metavar="DATASET", help="a named data set, or a folder, as an import writes it")
    parser.add_argument(
        "--runs",
        type=int,
        default=3,
        help="random divisions of the questions (default: %(default)s); one run if the data bring their own",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first of them (default: %(default)s)")
    parser.add_argument(
        "--group-by", metavar="COLUMN", help="questions with the same value in this column of the data stay in one part"
    )
    parser.add_argument("--report", metavar="FILE", help="also write one HTML page with figures, such as report.html")
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from embedllm._support.files import check_writable, replacing, user_path
    from embedllm.datasets.load import load_dataset
    from embedllm.evaluation import ROUTER, compare, division, method_table, report_html, verdict
    from embedllm.studies.baselines import findings

    if options.report:  # before minutes of work
        check_writable(user_path(options.report).parent)
    matrix = load_dataset(options.dataset)
    print(_printable(matrix))
    comparison = compare(matrix, options.seed, options.runs, sizes=bool(options.report), group_by=options.group_by)
    print(method_table(comparison).to_string(na_rep=""))
    print(division(comparison))
    print("log loss in nats; accuracy and routing in %; gain over the best single model in points, 95 % interval")
    print(*(f"- {line}" for line in findings(comparison, ROUTER)), sep="\n")
    print(verdict(comparison))
    if options.report:
        with replacing(options.report) as temporary:
            temporary.write_text(report_html(matrix, comparison, options.seed), encoding="utf-8")
        print(f"report written to {options.report}")


def _add_fit(commands: Any) -> None:
    parser = commands.add_parser("fit", help="fit a router to all answers of a data set")
    parser.add_argument(
        "dataset", metavar="DATASET", help="a named data set, such as 'mmlu-pro', or a folder, as an import writes it"
    )
    parser.add_argument("--router", metavar="DIR", required=True, help="folder to save the router in")
    _add_encoder(parser, "that of the data set, else the paper's")
    alone = parser.add_argument_group(
        "matrix factorization alone",
        "Any of these options, and torchrun, fit it in place of the stack of matrix factorization, KNN and baseline",
    )
    alone.add_argument("--dim", type=int, help="size of a model embedding; default: 232")
    alone.add_argument("--alpha", type=_number, help="regularization: the noise of the training; default: auto")
    alone.add_argument("--solver", help="'exact' (the default), or 'sgd' as in the paper")
    alone.add_argument("--prior", help="'pool', where models borrow from the others, or 'none' (the default)")
    alone.add_argument("--seed", dest="random_state", type=int, help="seed of the solver 'sgd'; default: 0")
    parser.set_defaults(run=_fit)


def _number(text: str) -> float | str:
    """Return a number; what is none is left for the fit to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


def _fit(options: argparse.Namespace) -> None:
    from embedllm._support.files import check_writable
    from embedllm.datasets.load import load_dataset
    from embedllm.predictors.distributed import own_share, process_group, rank
    from embedllm.predictors.mf import MatrixFactorization
    from embedllm.predictors.stacked import StackedCorrectness, standard_parts
    from embedllm.router import Router

    check_writable(options.router)  # before hours of fitting
    names = ("dim", "alpha", "solver", "prior", "random_state")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    with process_group(options.device):
        number, n_processes = rank()
        matrix = load_dataset(options.dataset)
        if given or n_processes > 1:
            settings = given | {"prior": None} if given.get("prior") == "none" else given
            predictor = MatrixFactorization(device=options.device, **settings)
        else:
            predictor = StackedCorrectness(standard_parts(matrix.n_models, options.device), told_benchmark=False)
        router = Router.fit(own_share(matrix), predictor, encoder=options.encoder, device=options.device)
        if number == 0:
            router.save(options.router)
            print(_printable(matrix))
            if isinstance(router.predictor, StackedCorrectness):
                print(_printable(router.predictor.summary()))
            print(_printable(f"router saved in {options.router}; encoder: {router.encoder.name}"))
            if n_processes > 1:
                print(f"fitted by {n_processes} processes, each with its share of the questions")


def _add_route(commands: Any) -> None:
    parser = commands.add_parser("route", help="choose a model for each question")
    parser.add_argument(
        "questions",
        metavar="QUESTION",
        nargs="*",
        help="text of a question, in quotes; by default, lines of the input",
    )
    parser.add_argument("--router", metavar="DIR", required=True, help="folder that a router was saved in")
    parser.add_argument(
        "--file", metavar="FILE", help="questions: .csv, .parquet or .jsonl with `prompt`, or text with one a line"
    )
    _add_encoder(parser, "that of the router")
    named: dict[str, Any] = {"action": "append", "metavar": "MODEL"}
    parser.add_argument("--model", dest="models", help="choose among these only; may be repeated", **named)
    parser.add_argument("--exclude", help="never choose this one; may be repeated", **named)
    parser.add_argument("--top", type=int, help="list so many models for each question")
    parser.add_argument(
        "--min-probability", type=float, metavar="P", help="a question goes to the fallback if no model reaches P"
    )
    parser.add_argument("--fallback", metavar="NAME", help="a model, or any other name")
    parser.add_argument("--prices", metavar="FILE", help="table with the columns model, price: what a question costs")
    parser.add_argument("--default-price", type=float, metavar="C", help="of each model without a price")
    parser.add_argument("--max-cost", type=float, metavar="C", help="choose no model whose price is higher")
    parser.add_argument("--tradeoff", type=float, metavar="T", help="choose by the probability minus T times the price")
    parser.add_argument(
        "--format", choices=_FORMATS, help="default: that of the ending of --out, such as routes.csv, else table"
    )
    parser.add_argument("--out", metavar="FILE", help="write there instead of the terminal")
    parser.set_defaults(run=_route)


def _route(options: argparse.Namespace) -> None:
    from embedllm._support.files import check_writable, replacing, user_path
    from embedllm.datasets.prices import complete_prices, read_prices
    from embedllm.router import Router

    if options.out:
        check_writable(user_path(options.out).parent)  # before all questions are encoded
    if options.top is not None and (options.min_probability or options.fallback or options.prices):
        raise ValueError(
            "--top lists models and chooses none: leave it out, or --min-probability, --fallback and --prices"
        )
    if options.default_price is not None and not options.prices:
        raise ValueError("--default-price completes a table of prices: pass --prices FILE too")
    questions = _questions(options)
    router = Router.load(options.router, options.encoder, options.device)
    models = router.model_names.tolist() if options.models is None else options.models
    if unknown := {*(options.exclude or ())} - {*router.model_names}:
        raise ValueError(f"--exclude {min(unknown)!r}: there is no such model in {options.router}")
    models = [name for name in models if name not in (options.exclude or ())]
    if options.top is not None:
        routes = router.rank(questions, options.top, models=models)
    else:
        minimum = {"min_probability": options.min_probability or 0.0, "fallback": options.fallback}
        prices = options.prices and read_prices(user_path(options.prices))
        if options.default_price is not None:
            prices = complete_prices(prices, models, options.default_price)
        cost = {"prices": prices, "max_cost": options.max_cost, "tradeoff": options.tradeoff}
        routes = router.route(questions, models=models, **minimum, **cost)
    ending = Path(options.out or "").suffix.lower().lstrip(".")
    form = options.format or (ending if ending in _FORMATS else "table")
    written = _written(routes, form, shorten=not options.out)
    if options.out:
        with replacing(options.out) as temporary:
            temporary.write_text(written, encoding="utf-8")
    else:
        print(written, end="", flush=True)
    _warn_of_unfamiliar(routes[routes["rank"] == 1] if options.top is not None else routes, form)


def _warn_of_unfamiliar(routes: pd.DataFrame, form: str) -> None:
    """Print a line on the standard error if there are unfamiliar questions; `routes` has a row for each question."""
    if count := int(routes["unfamiliar"].sum()):
        verb, whose = ("is", "its") if count == 1 else ("are", "their")
        print(
            f"warning: {count:,} of {len(routes):,} questions {verb} less like the questions of the data than 99 % of "
            f"those are like each other: {whose} probabilities mean little "
            f"({'marked ?' if form == 'table' else 'column unfamiliar'})",
            file=sys.stderr,
        )


def _questions(options: argparse.Namespace) -> list[str]:
    """Return the questions of the arguments, of a file or of the standard input."""
    from embedllm._support.files import user_path
    from embedllm.datasets.formats.typed_questions import lines_as_questions, read_questions

    if options.file and options.questions:
        raise ValueError("questions are given both as arguments and by --file: leave out one of them")
    if options.file:
        return read_questions(user_path(options.file))
    for text in options.questions:
        if os.path.isfile(text):
            raise ValueError(
                f"{text!r} is the name of a file: pass --file {text} to route the questions in it, or, if it is itself "
                f"a question, give it on the standard input"
            )
    questions = options.questions
    if not questions and not sys.stdin.isatty():
        questions = list(lines_as_questions(sys.stdin.buffer, Path("the standard input")))
    if not questions:
        raise ValueError("there is no question: pass some as arguments, by --file or on the standard input")
    return questions


def _written(routes: pd.DataFrame, form: str, shorten: bool) -> str:
    """Return routes as text that ends its last line; in a table, questions may be shortened."""
    if form == "csv":
        return routes.to_csv(index=False)
    if form in ("json", "jsonl"):
        written = routes.to_json(orient="records", lines=form == "jsonl", force_ascii=False, indent=None)
        return written.rstrip("\n") + "\n"
    return _table(routes, shorten) + "\n"


def _table(routes: pd.DataFrame, shorten: bool) -> str:
    """Routes as text, each on a line of its own: for a terminal, questions are shortened to the room that is left."""
    heads = {"probability": "correct", "runner_up": "runner-up", "runner_up_probability": "correct"}
    columns = []
    marks = routes["unfamiliar"].map({True: "?", False: ""})
    for name, values in routes.drop(columns=["question", "unfamiliar"]).items():
        missing = values.isna()
        shown = zip(values, marks, strict=True)
        texts = [f"{value:.3f}{mark}" if "probability" in str(name) else _printable(value) for value, mark in shown]
        cells = ["-" if none else text for text, none in zip(texts, missing, strict=True)]
        columns.append([heads.get(str(name), str(name)), *cells])
    widths = [max(map(len, column)) for column in columns]
    texts = [_printable(" ".join(question.split())) for question in routes["question"]]
    left = shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths)
    room = max(20, left if shorten else max(map(len, texts), default=0))
    questions = ["question", *(text if len(text) <= room else f"{text[: room - 3]}..." for text in texts)]
    lines = [zip(row, (room, *widths), strict=True) for row in zip(questions, *columns, strict=True)]
    return "\n".join("  ".join(f"{cell:{width}}" for cell, width in line).rstrip() for line in lines)


def _printable(value: object) -> str:
    from embedllm._support.checks import printable  # with pandas, which the start of a command should not wait for

    return printable(value)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a container that stops is like Ctrl-C
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a terminal may be of ASCII alone
    warnings.formatwarning = lambda message, *_, **__: f"warning: {_printable(message)}\n"
    sys.exit(main())
