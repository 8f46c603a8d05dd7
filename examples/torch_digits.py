"""A small convolutional network reads handwritten digits, with PyTorch on the CPU.

The optimizer is `thalweg.torch.AdamW`, the learning rate torch's `OneCycleLR`. The data are the
1,797 digits of 8 x 8 pixels of scikit-learn; every fourth is for testing. The program takes a few
seconds and reads more than 98 % of the test digits correctly.

    pip install 'thalweg[torch]' scikit-learn
    python examples/torch_digits.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import thalweg.torch

EPOCHS = 15
BATCH = 64


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of shape (1797, 1, 8, 8) with values from 0 to 1, and their digits."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return images, torch.tensor(digits)


def network() -> nn.Module:
    """Two convolutions and a classifier, 9,930 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(512, 10),
    )


def main() -> float:
    """Train; return the accuracy on the test digits."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # faster for a network this small
    images, digits = data()
    unseen = torch.arange(len(digits)) % 4 == 0
    x, y = images[~unseen], digits[~unseen]

    model = network()
    batches = -(-len(y) // BATCH)
    opt = thalweg.torch.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(opt, 1e-2, total_steps=EPOCHS * batches)

    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        for rows in torch.randperm(len(y)).split(BATCH):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            opt.step(max_norm=1.0)
            scheduler.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch:2}  loss {total / len(y):.4f}  rate {scheduler.get_last_lr()[0]:.5f}")

    model.eval()
    with torch.no_grad():
        right: float = (model(images[unseen]).argmax(1) == digits[unseen]).float().mean().item()
    print(f"{right:.1%} of {int(unseen.sum())} unseen digits are read correctly")
    return right


if __name__ == "__main__":
    main()
