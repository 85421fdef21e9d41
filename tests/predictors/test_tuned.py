"""The choice of a hyperparameter on held-out questions."""

import numpy as np
import pytest
from fits import noise_with_copies
from sklearn.metrics import log_loss

from embedllm import KNNCorrectness
from embedllm.predictors.scores import mean_scores
from embedllm.predictors.tuned import Tuned


def test_the_value_of_least_validation_loss_is_taken(make_matrix):
    train, validation = make_matrix(n_questions=80), make_matrix(n_questions=40, seed=0)
    tuned = Tuned(KNNCorrectness(), "n_neighbors", [1, 9, 80]).fit(train, validation)
    predicted = [KNNCorrectness(k).fit(train).predict_matrix(validation) for k in (1, 9, 80)]
    losses = [mean_scores(each, validation)["log_loss"] for each in predicted]
    assert tuned.path_["log_loss"].tolist() == losses
    assert tuned.predictor_.n_neighbors == [1, 9, 80][int(np.argmin(losses))]
    expected = KNNCorrectness(tuned.predictor_.n_neighbors).fit(train).predict_matrix(validation)
    np.testing.assert_array_equal(tuned.predict_matrix(validation), expected)


def test_without_validation_data_a_question_and_its_copy_are_not_divided():
    """Labels are noise, so that k = 1 is best only where the copy of a held-out question is learned from."""
    matrix = noise_with_copies(100)
    tuned = Tuned(KNNCorrectness(), "n_neighbors", [1, 60]).fit(matrix)
    assert tuned.predictor_.n_neighbors == 60
    assert tuned.predictor_.train_.n_questions == 200  # fitted on all questions in the end


def test_loss_is_that_of_observed_answers(make_matrix):
    matrix = make_matrix(missing=0.4)
    probability = np.random.default_rng(1).random(matrix.labels.shape)
    expected = log_loss(matrix.labels[matrix.observed], probability[matrix.observed])
    found = mean_scores(probability, matrix)["log_loss"]
    assert found == pytest.approx(expected, abs=2e-3)  # that keeps away from 0 and 1
