"""Each prompt of a group encoded once: for rollouts, old policy, reference, update and evaluation.

A reward model's prompt (image, question, two long answers) is many times longer than its verdict, and every prompt is answered
G times. Here its tokens, and its images, pass through the model once per group:

- `prompts`: a prompt without padding, its M-RoPE positions and its images;
- `packing`: prompts and their completions in one row of tokens, without padding;
- `attention`: the one attention function: completions attend to their prompt and, causally, to themselves;
- `log_probs`: log-probabilities with gradients, for old policy, reference and update;
- `generation`: sampling, for rollouts and evaluation.

The idea of attending to a shared prefix once and merging by log-sum-exp is Hydragen's (arXiv 2402.05099); that of training on
packed groups is Prefix Grouper's (arXiv 2506.05433), which repeats the prefix's keys and values; here they stay single.
"""
