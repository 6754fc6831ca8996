"""r1reward: multimodal reward models that reason, trained with StableReinforce (arXiv 2505.02835) on top of TRL."""

__version__ = "0.1.0"

import os

# How long libgomp's threads spin before they sleep, in iterations; read once, when torch loads. With the default of 300,000 two
# threads beside any other busy process ran 50 times slower (they spin away the time that the other thread needs); alone, 2,000
# is as fast.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
