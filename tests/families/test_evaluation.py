"""Completions of each family for rows with one image, two and none: those that plain calls of the model give."""

import pytest

from r1reward.inference.backend import Sampling
from r1reward.inference.transformers_backend import TransformersBackend
from tests.families.conftest import greedy_alone, rec_rows

LENGTH = 4


@pytest.fixture(scope="module")
def backend(tiny):
    return TransformersBackend(tiny.model(), tiny.processor)


@pytest.fixture(scope="module")
def expected(tiny):
    """Greedy texts of the rows one by one, without padding and without a cache."""
    model = tiny.model().eval()
    ids = [greedy_alone(model, tiny.processor, row, LENGTH) for row in rec_rows((1, 2, 0, 1))]
    return tiny.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("together", [[0, 1, 2, 3], [0, 3], [0], [1], [2], [1, 2]], ids=str)
def test_padding_and_neighbours_change_nothing(backend, expected, together):
    """Prompts of different lengths lie in one batch, padded on the left."""
    rows = rec_rows((1, 2, 0, 1))
    completions = backend.complete([rows[n] for n in together], 1, Sampling(LENGTH), seed=0)
    assert [row[0].text for row in completions] == [expected[n] for n in together]


def test_the_image_is_seen(backend):
    """The same prompt with other pixels."""
    texts = {
        tuple(row[0].text for row in backend.complete(rec_rows((1, 2), seed), 1, Sampling(LENGTH), seed=0)) for seed in range(3)
    }
    assert len(texts) > 1


def test_votes(backend):
    (drawn,) = backend.complete(rec_rows((1,)), 3, Sampling(LENGTH, temperature=1.0), seed=0)
    assert len(drawn) == 3 and len({completion.text for completion in drawn}) > 1
