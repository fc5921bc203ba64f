from __future__ import annotations

from invertkit.models.segmenters.encoder_decoder import EncoderDecoder


def test_it_has_the_published_number_of_weights() -> None:
    assert sum(weight.numel() for weight in EncoderDecoder().parameters()) == 150_723
