"""Compare distances between models of one size, or of one specialization, with those between random models.

Two kinds of embeddings are compared. The paper's come from SGD: scale a coordinate of all p_m and undo it in the
classifier, and no prediction changes, so the answers determine p_m, and the distances, only up to an invertible map;
the rest depends on the random start. Of an exact fit, the distance of two models is the standard deviation, over the
training questions, of the difference of their logits: two models are near if they find the same questions harder and
the same questions easier. How good a model is whatever the question is left out.

Distances are averaged over runs, each divided by its mean over all pairs.

References
----------
EmbedLLM (arXiv 2410.02223), section 6.1 and Figure 6, for the distances between SGD's embeddings; the test against
random communities and the exact coordinates are this companion's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.spatial.distance import squareform
from sklearn.manifold import TSNE

from embedllm._checks import check_positive, name_positions
from embedllm.datasets.communities import PAPER, Community, find_communities, tags_of
from embedllm.matrix import CorrectnessMatrix
from embedllm.predictors.mf import MatrixFactorization
from embedllm.protocol.reported_values import ReportedValue
from embedllm.protocol.runs import fit_clone, split_runs

SPACES = ("SGD", "exact")
"""The embeddings that are compared: those of the paper's training, and those of the exact fit."""

SIGNIFICANT = 0.05

_NUMBERS = ("within", "between", "ratio", "null_low", "null_high", "p")

_MIN_SIZE = 3  # models in a community, so that there are pairs to average over
_PERPLEXITY = 10  # of t-SNE: about the size of a community


@dataclass(frozen=True)
class ModelDistances:
    """Distances between the models of a data set in one space.

    Parameters
    ----------
    by_seed : dict of int to DataFrame of shape (n_models, n_models)
        Seed of a run to its distances, with mean 1 over all pairs; rows and columns are model names, sorted.
    space : str
        Name of the estimator.
    data : str
        What the data are.
    """

    by_seed: dict[int, pd.DataFrame]
    space: str
    data: str

    def mean(self) -> pd.DataFrame:
        """Return the mean over the runs, (n_models, n_models)."""
        first, *others = self.by_seed.values()
        return sum(others, start=first) / len(self.by_seed)


def measure_distances(
    matrix: CorrectnessMatrix, estimators: Mapping[str, MatrixFactorization], seed: int = 0, n_seeds: int = 3
) -> dict[str, ModelDistances]:
    """Fit factorizations for each seed and measure the distances between the embeddings of the models.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    estimators : mapping of str to MatrixFactorization
        Clones of them are fitted.
    seed, n_seeds : int
        SGD is fitted for the first seed only, since a fit takes a minute.

    Returns
    -------
    dict of str to ModelDistances
        For each estimator. A model without a training answer in one of the runs is left out.
    """
    splits = list(split_runs(matrix, seed, n_seeds))
    learned = np.all([train.observed.any(axis=1) for _, (train, _, _) in splits], axis=0)
    names = sorted(matrix.model_names[learned])
    found = {}
    for space, estimator in estimators.items():
        by_seed = {}
        for run_seed, (train, val, _) in splits[:1] if estimator.solver == "sgd" else splits:
            fitted = fit_clone(estimator, train, run_seed, validation=val)
            apart = fitted.distances(ability=fitted.solver == "sgd").loc[names, names]
            by_seed[run_seed] = scaled_distances(apart)
        found[space] = ModelDistances(by_seed, space, matrix.source)
    return found


def scaled_distances(distances: pd.DataFrame) -> pd.DataFrame:
    """Divide distances by their mean over all pairs; NaN off the diagonal if all are 0."""
    pairs = squareform(distances.to_numpy(float), checks=False)
    scale = pairs.mean() if pairs.any() else np.nan
    return pd.DataFrame(squareform(pairs / scale), distances.index, distances.columns)


def compare_communities(
    distances: Mapping[str, ModelDistances], models: pd.DataFrame, n_permutations: int = 10_000
) -> pd.DataFrame:
    """Compare the distances within each community with those to the other models, averaged over the runs.

    Parameters
    ----------
    distances : mapping of str to ModelDistances
        From `measure_distances`.
    models : DataFrame indexed by model name
        As in `find_communities`.
    n_permutations : int
        Random communities of the same size, drawn with a fixed seed.

    Returns
    -------
    DataFrame
        One row for each space and each community of three models or more, or of the paper's. Columns: `data`,
        `space`, `community`, `kind`, `paper` (whether it is one of the paper's), `n_models`, `within` and `between`
        (mean distance of two members, and of a member and another model), `ratio` (of the two), `null_low` and
        `null_high` (the central 95 % of the ratios of random communities), `p` (one-sided probability that a random
        community has a ratio as low: (1 + those drawn that have) / (1 + drawn)). NaN where a community is too small.
    """
    rows = [
        {"data": each.data, "space": space, **row}
        for space, each in distances.items()
        for row in _compare(each.mean(), find_communities(models), n_permutations)
    ]
    return pd.DataFrame(rows)


def compare_each_seed(distances: Mapping[str, ModelDistances], models: pd.DataFrame) -> pd.DataFrame:
    """Do what `compare_communities` does for each run alone; the column `seed` says which."""
    parts = [
        compare_communities({space: replace(each, by_seed={seed: frame})}, models).assign(seed=seed)
        for space, each in distances.items()
        for seed, frame in each.by_seed.items()
    ]
    return pd.concat(parts, ignore_index=True)


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
            numbers = [*within, *between, *ratio, *np.quantile(null, [0.025, 0.975]), *p]
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


def map_models(distances: ModelDistances, models: pd.DataFrame) -> pd.DataFrame:
    """Lay the models out in a plane by t-SNE of the mean distances.

    t-SNE starts from classical scaling: the map is deterministic and does not depend on the order of the models. Models
    that are near stay near; the distances between groups, and the axes, have no meaning.

    Parameters
    ----------
    distances : ModelDistances
    models : DataFrame indexed by model name
        As in `find_communities`.

    Returns
    -------
    DataFrame indexed by model name
        `data`, `x`, `y`, `params_b` (NaN if not known), and `specialization`: the rarest tag of the model among those
        that at least three of the models have; empty without one.
    """
    mean = distances.mean()
    known = models.reindex(mean.index)
    sizes = {each.name: len(each.members) for each in find_communities(known) if each.kind == "specialization"}
    tags = {model: [tag for tag in each if sizes[tag] >= _MIN_SIZE] for model, each in tags_of(known).items()}
    rarest = [min(tags.get(model, []), key=lambda tag: (sizes[tag], tag), default="") for model in mean.index]
    x, y = _layout(mean.to_numpy()).T
    billions = known["params_b"].astype(float) if "params_b" in known else np.nan
    table = {"data": distances.data, "x": x, "y": y, "params_b": billions, "specialization": rarest}
    return pd.DataFrame(table, index=mean.index)


def _layout(distances: np.ndarray) -> np.ndarray:
    """Points in a plane, (n_models, 2)."""
    n = len(distances)
    centre = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-centre @ np.nan_to_num(distances) ** 2 @ centre / 2)
    classical = np.zeros((n, 2))
    for axis, column in enumerate(range(n - 1, max(n - 3, -1), -1)):  # eigenvalues ascend
        vector = vectors[:, column]
        # An eigenvector has no sign of its own.
        classical[:, axis] = vector * np.sign(vector[np.abs(vector).argmax()]) * np.sqrt(max(values[column], 0.0))
    if n <= 3:
        return classical  # which is exact
    start = classical * (1e-4 / (classical.std() or 1.0))
    sne = TSNE(metric="precomputed", init=start, perplexity=min(_PERPLEXITY, (n - 1) / 3), method="exact")
    return sne.fit_transform(np.nan_to_num(distances)).astype(float)


def choose_model(matrix: CorrectnessMatrix, model: str = "", seed: int = 0) -> str:
    """Return the name of the given model or, if it is empty, of the best model in training.

    Parameters
    ----------
    matrix : CorrectnessMatrix
    model : str
    seed : int
        Of the division of the questions, where the source brings none.

    Raises
    ------
    KeyError
        If the model is unknown; the message lists the known ones.
    """
    if model:
        return str(matrix.model_names[name_positions("model", [model], matrix.model_names)[0]])
    _, (train, _, _) = next(split_runs(matrix, seed, 1))
    return str(train.accuracy(by="model")["accuracy"].fillna(-1.0).sort_index().idxmax())


def nearest_models(distances: ModelDistances, models: pd.DataFrame, model: str, n: int = 10) -> pd.DataFrame:
    """Return the models nearest to one, by the mean over the runs.

    Parameters
    ----------
    distances : ModelDistances
    models : DataFrame indexed by model name
    model : str
    n : int
        How many; fewer if there are no more.

    Returns
    -------
    DataFrame
        Indexed by `rank`, from 1. Columns: `data`, `model`, `distance` (1: mean over all pairs of models), `spread`
        (standard deviation over the runs; NaN for one) and, where they are known, `params_b` and `tags`.

    Raises
    ------
    KeyError
        If the model is unknown or was not learned; the message lists the others.
    """
    mean = distances.mean()
    name_positions("model", [model], mean.index)
    each = pd.DataFrame({seed: frame[model] for seed, frame in distances.by_seed.items()})
    table = pd.DataFrame({"data": distances.data, "distance": mean[model], "spread": each.std(axis=1)})
    nearest = table.drop(model).sort_values("distance", kind="stable").head(check_positive("n", n))
    nearest = nearest.join(models.filter(["params_b", "tags"])).rename_axis("model").reset_index()
    nearest.insert(0, "data", nearest.pop("data"))
    return nearest.set_index(pd.RangeIndex(1, len(nearest) + 1, name="rank"))


def community_values(by_seed: pd.DataFrame) -> list[ReportedValue]:
    """Return the values that the page on communities reports.

    Parameters
    ----------
    by_seed : DataFrame
        From `compare_each_seed`.
    """

    tested = by_seed[by_seed["ratio"].notna()]
    closer = tested["ratio"] < 1
    tested = tested.assign(closer=closer, found=closer & (tested["p"] < SIGNIFICANT))
    seeds = by_seed["seed"].unique()
    one = tested[(tested["space"] == SPACES[0]) & (tested["seed"] == seeds[0])]

    significantly = f"closer than random ones (p < {SIGNIFICANT:g})"
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
            rows = tested[(tested["space"] == space) & (tested["paper"] | (not paper))]
            # NaN, not 0, where nothing was tested.
            fitted = by_seed.loc[by_seed["space"] == space, "seed"].unique()
            runs = rows[column].astype(float).groupby(rows["seed"]).agg(how).reindex(fitted)
            values.append(ReportedValue(f"{space.lower()}_{key}", f"{what}, {space}", runs))
    return values
