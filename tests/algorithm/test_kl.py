import torch

from r1reward.algorithm import kl


def test_hand_worked_values():
    log_probs, ref = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-2.0, -1.0]])
    torch.testing.assert_close(kl.k1(log_probs, ref), torch.tensor([[1.0, -1.0]]))
    # k3 = x - ln x - 1 with x = p_ref / p: at x = 1/e it is 1/e, at x = e it is e - 2
    torch.testing.assert_close(kl.k3(log_probs, ref), torch.tensor([[0.36787944, 0.71828183]]))


def test_both_estimators_are_unbiased():
    p, q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    exact = (p * (p.log() - q.log())).sum()
    torch.testing.assert_close((p * kl.k1(p.log(), q.log())).sum(), exact)
    torch.testing.assert_close((p * kl.k3(p.log(), q.log())).sum(), exact)


def test_only_k3_is_never_negative():
    generator = torch.Generator().manual_seed(0)
    log_probs = -5 * torch.rand(100, 10, generator=generator, dtype=torch.float64)
    ref = -5 * torch.rand(100, 10, generator=generator, dtype=torch.float64)
    assert (kl.k1(log_probs, ref) < 0).any()
    assert (kl.k3(log_probs, ref) >= 0).all()
