"""Compare distances between models of one size, or of one specialization, with those between random models.

Two kinds of embeddings are compared. The paper's come from SGD: scale a coordinate of all p_m and undo it in the
classifier, and no prediction changes, so the answers determine p_m, and the distances, only up to an invertible map;
the rest depends on the random start. Of an exact fit, the distance of two models is the standard deviation, over the
training questions, of the difference of their logits: two models are near if they find the same questions harder and
the same questions easier. How good a model is whatever the question is left out.

All distances are those of the first run, and everything that is reported follows from them.

References
----------
EmbedLLM (arXiv 2410.02223), section 6.1 and Figure 6, for the distances between SGD's embeddings; the test against
random communities and the exact coordinates are this companion's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.decomposition import KernelPCA
from sklearn.manifold import TSNE

from embedllm._support.checks import check_positive, name_positions
from embedllm.datasets.communities import PAPER, Community, find_communities, tags_of
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import Run
from embedllm.protocol.significance import SIGNIFICANT, holm

SPACES = ("SGD", "exact")
"""The embeddings that are compared: those of the paper's training, and those of the exact fit."""

MIN_COMMUNITIES = 3
"""With fewer communities, a data set cannot test a statement about them."""

_NUMBERS = ("within", "between", "ratio", "limit", "p")

_MIN_SIZE = 3  # models in a community, so that there are pairs to average over
_PERPLEXITY = 10  # of t-SNE: about the size of a community


def measure_distances(run: Run) -> dict[str, pd.DataFrame]:
    """Measure the distances between the embeddings of the models.

    Parameters
    ----------
    run : Run
        Its factorizations count, and no other predictors.

    Returns
    -------
    dict of str to DataFrame of shape (n_models, n_models)
        For each factorization the Euclidean distances, rows and columns by name, sorted. A model without a training
        answer is left out.
    """
    train = run.split.train
    names = sorted(train.model_names[train.observed.any(axis=1)])
    fits = {space: fit for space, fit in run.predictors.items() if isinstance(fit, MatrixFactorization)}
    return {space: fit.distances(ability=fit.solver == "sgd").loc[names, names] for space, fit in fits.items()}


def compare_communities(
    distances: Mapping[str, pd.DataFrame], models: pd.DataFrame, data: str, n_permutations: int = 10_000
) -> pd.DataFrame:
    """Compare the distances within each community with those to the other models.

    Parameters
    ----------
    distances : mapping of str to DataFrame of shape (n_models, n_models)
        From `measure_distances`.
    models : DataFrame indexed by model name
        As in `find_communities`.
    data : str
        What the data are.
    n_permutations : int
        Random communities of the same size, drawn with a fixed seed.

    Returns
    -------
    DataFrame
        One row for each space and each community of three models or more, or of the paper's. Columns: `data`,
        `space`, `community`, `kind`, `paper` (whether it is one of the paper's), `n_models`, `within` and `between`
        (mean distance of two members, and of a member and another model), `ratio` (of the two), `limit` (95 % of
        random communities have a larger ratio), `p` (one-sided probability that a random community has a ratio as low:
        (1 + those drawn that have) / (1 + drawn)) and `p_corrected` (for the number of communities tested in the space,
        by Holm's method: the probability that any of them would be found if none differed from random ones). NaN where
        a community is too small.
    """
    found = find_communities(models)
    rows = [
        {"data": data, "space": space, **row}
        for space, each in distances.items()
        for row in _compare(each, found, n_permutations)
    ]
    table = pd.DataFrame(rows)
    return table.assign(p_corrected=table.groupby("space")["p"].transform(holm))


def _compare(distances: pd.DataFrame, communities: list[Community], n_permutations: int) -> list[dict[str, object]]:
    values, n_models = distances.to_numpy(), len(distances)
    # One set of random permutations for all: the first n models of a permutation are a random community of n.
    draws = (check_positive("n_permutations", n_permutations), n_models)
    places = np.random.default_rng(0).permuted(np.broadcast_to(np.arange(n_models), draws), axis=1)
    drawn: dict[int, np.ndarray] = {}
    rows: list[dict[str, object]] = []
    for community in communities:
        members = distances.index.isin(community.members)
        size, paper = int(members.sum()), community.name in PAPER
        row = {"community": community.name, "kind": community.kind, "paper": paper, "n_models": size}
        if _MIN_SIZE <= size < n_models:
            if size not in drawn:
                drawn[size] = _ratios(*_means(values, places < size))
            within, between = _means(values, members[None])
            ratio, null = _ratios(within, between), drawn[size]
            # A draw of the community itself counts, however its sum was rounded.
            as_low = np.count_nonzero(null <= ratio * (1 + 1e-9))
            p = np.where(np.isnan(ratio), np.nan, (1 + as_low) / (1 + n_permutations))
            numbers = [*within, *between, *ratio, np.quantile(null, SIGNIFICANT), *p]
        elif paper:
            numbers = [np.nan] * len(_NUMBERS)
        else:
            continue
        rows.append(row | dict(zip(_NUMBERS, map(float, numbers), strict=True)))
    return rows


def _means(distances: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance within sets of models and from their members to the others, (n_sets,) each.

    `members` is a mask, (n_sets, n_models), of at least two and not all models in each row.
    """
    member = members.astype(float)
    size = member.sum(axis=1)
    inside = ((member @ distances) * member).sum(axis=1)  # every pair twice
    across = member @ distances.sum(axis=1) - inside
    return inside / (size * (size - 1)), across / (size * (members.shape[1] - size))


def _ratios(within: np.ndarray, between: np.ndarray) -> np.ndarray:
    return np.divide(within, between, out=np.full(len(within), np.nan), where=between > 0)


def map_models(distances: pd.DataFrame, models: pd.DataFrame, data: str) -> pd.DataFrame:
    """Lay the models out in a plane by t-SNE of their distances.

    t-SNE starts from classical scaling: the map is deterministic and does not depend on the order of the models. Models
    that are near stay near; the distances between groups, and the axes, have no meaning.

    Parameters
    ----------
    distances : DataFrame of shape (n_models, n_models)
        Of one space, from `measure_distances`.
    models : DataFrame indexed by model name
        As in `find_communities`.
    data : str
        What the data are.

    Returns
    -------
    DataFrame indexed by model name
        `data`, `x`, `y`, `params_b` (NaN if not known), and `specialization`: the rarest tag of the model among those
        that at least three of the models have; empty without one.
    """
    known = models.reindex(distances.index)
    sizes = {each.name: len(each.members) for each in find_communities(known) if each.kind == "specialization"}
    tags = {model: [tag for tag in each if sizes[tag] >= _MIN_SIZE] for model, each in tags_of(known).items()}
    rarest = [min(tags.get(model, []), key=lambda tag: (sizes[tag], tag), default="") for model in distances.index]
    x, y = _layout(distances.to_numpy()).T
    billions = known["params_b"].astype(float) if "params_b" in known else np.nan
    table = {"data": data, "x": x, "y": y, "params_b": billions, "specialization": rarest}
    return pd.DataFrame(table, index=distances.index)


def _layout(distances: np.ndarray) -> np.ndarray:
    """Points in a plane, (n_models, 2)."""
    n = len(distances)
    classical = np.zeros((n, 2))
    if n > 1:  # kernel PCA of the inner products
        scaling = KernelPCA(2, kernel="precomputed", eigen_solver="dense")
        classical[:] = scaling.fit_transform(-(np.nan_to_num(distances) ** 2) / 2)[:, :2]
    if n <= 3:
        return classical  # which is exact
    start = classical * (1e-4 / (classical.std() or 1.0))
    sne = TSNE(metric="precomputed", init=start, perplexity=min(_PERPLEXITY, (n - 1) / 3), method="exact")
    return sne.fit_transform(np.nan_to_num(distances)).astype(float)


def choose_model(train: CorrectnessMatrix, model: str = "") -> str:
    """Return the name of the given model or, if it is empty, of the best model in training.

    Parameters
    ----------
    train : CorrectnessMatrix
    model : str

    Raises
    ------
    KeyError
        If the model is unknown; the message lists the known ones.
    """
    if model:
        return str(train.model_names[name_positions("model", [model], train.model_names)[0]])
    return str(train.accuracy(by="model")["accuracy"].fillna(-1.0).sort_index().idxmax())


def nearest_models(distances: pd.DataFrame, models: pd.DataFrame, model: str, data: str, n: int = 10) -> pd.DataFrame:
    """Return the models nearest to one.

    Parameters
    ----------
    distances : DataFrame of shape (n_models, n_models)
        Of one space, from `measure_distances`.
    models : DataFrame indexed by model name
    model : str
    data : str
        What the data are.
    n : int
        How many; fewer if there are no more.

    Returns
    -------
    DataFrame
        Indexed by `rank`, from 1. Columns: `data`, `model`, `distance` and, where they are known, `params_b` and
        `tags`.

    Raises
    ------
    KeyError
        If the model is unknown or was not learned; the message lists the others.
    """
    name_positions("model", [model], distances.index)
    nearest = distances[model].drop(model).sort_values(kind="stable").head(check_positive("n", n))
    table = nearest.rename("distance").to_frame().join(models.filter(["params_b", "tags"]))
    table = table.rename_axis("model").reset_index()
    table.insert(0, "data", data)
    return table.set_index(pd.RangeIndex(1, len(table) + 1, name="rank"))


def community_values(communities: pd.DataFrame) -> list[ReportedValue]:
    """Return the values that the page on communities reports: whole counts, and NaN where too little can be tested.

    Parameters
    ----------
    communities : DataFrame
        From `compare_communities`.
    """
    tested = communities[communities["ratio"].notna()]
    found = tested.assign(closer=tested["ratio"] < 1, found=tested["p_corrected"] < SIGNIFICANT)
    one = found[found["space"] == SPACES[0]]
    significantly = f"closer than random ones (corrected p < {SIGNIFICANT:g})"
    named = {
        "ratio": ("Distance within / between, mean over the communities", "ratio", "mean", False),
        "found": (f"Communities {significantly}", "found", "sum", False),
        "paper_closer": ("Communities of the paper with a ratio below 1", "closer", "sum", True),
        "paper_found": (f"Communities of the paper {significantly}", "found", "sum", True),
    }
    values = [
        ReportedValue("communities_tested", "Communities tested", [len(one)], count=True),
        ReportedValue("paper_communities", "Communities of the paper among them", [one["paper"].sum()], count=True),
    ]
    for space in SPACES:
        for key, (what, column, how, paper) in named.items():
            rows = found[(found["space"] == space) & (found["paper"] | (not paper))]
            value = rows[column].agg(how) if len(rows) >= MIN_COMMUNITIES else np.nan
            whose = "the paper's" if paper else "its"
            reason = f"fewer than {MIN_COMMUNITIES} of {whose} communities have {_MIN_SIZE} models here"
            key = f"{space.lower()}_{key}"
            values.append(ReportedValue(key, f"{what}, {space}", [value], count=how == "sum", reason=reason))
    return values
