"""Numbers of the native layouts that the embedded models have; training/ has the networks themselves."""

TEXT_DIM = 4096
"""Width of a text token in Wan's layout."""
POOLED_DIM = 768
"""Width of the pooled text, which the host insists on for HunyuanVideo's layout. The embedded model has none: it is
zero, so that everything a caption says reaches the video through attention to its words."""
SIGMA_SHIFT = 7.0
"""Of the noise schedule that the one-stream model is trained and sampled with."""
