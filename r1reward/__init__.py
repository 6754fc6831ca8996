"""r1reward: multimodal reward models that reason, trained with StableReinforce (arXiv 2505.02835) on top of TRL."""

__version__ = "0.1.0"
