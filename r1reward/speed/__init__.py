"""How fast a training step is, side by side with stock TRL: workloads, measurements, report (`python -m r1reward.bench`)."""
