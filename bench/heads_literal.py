"""CTMWA's algorithm as it is stated, with nothing left out that its result does not need: what our step is measured by.

Translators are a convolution of five kernel rows and a self-attention with queries and keys, fed with sequences of
length one; the meta loss is differentiated through everything, and what that gives to the backbone is thrown away. No
computation is repeated and nothing is done slowly on purpose. Written from the description of the algorithm.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from sentifuse.fuse.heads.ctmwa_network import BACKBONE, Block, CtmwaNetwork, TranslationWeights, WeightNet
from sentifuse.fuse.heads.ctmwa_step import Vectors, labels_of

# Processor ms of the authors' program in one thread at 768/512/512, batch 64, measured elsewhere (1,710 in all).
REFERENCE_MS = {
    "virtual pass and step": 85,
    "first gradient, with graph": 329,
    "meta pass, Adam": 71,
    "meta back-pass": 794,
    "real pass": 66,
    "real back-pass": 315,
    "clipping": 11,
    "SGD": 28,
}


class LiteralTranslator(nn.Module):
    """Convolution 5 × width, ReLU, self-attention of two heads with dropout on its weights, output layer."""

    def __init__(self, width: int, translated: int, p: float) -> None:
        super().__init__()
        self.translated = translated
        self.convolution = nn.Conv2d(1, translated, (5, width), padding=(2, 0))
        self.query = nn.Linear(translated, 2 * translated)
        self.key = nn.Linear(translated, 2 * translated)
        self.value = nn.Linear(translated, 2 * translated)
        self.output = nn.Linear(2 * translated, translated)
        self.dropout = nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.convolution(x[:, None, None, :])).squeeze(3).transpose(1, 2)  # (B, 1, D)
        query, key, value = (
            layer(hidden).view(len(x), 1, 2, self.translated).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        weights = self.dropout((query @ key.transpose(2, 3) / self.translated**0.5).softmax(-1))  # (B, 2, 1, 1)
        return self.output((weights @ value).transpose(1, 2).reshape(len(x), 1, -1)).squeeze(1)


class LiteralNetwork(nn.Module):
    """The backbone; returns logits, fusion inputs and the translation loss."""

    def __init__(
        self, text: int, image: int, embedding: int, classes: int, p: float, weights: TranslationWeights
    ) -> None:
        super().__init__()
        self.weights = weights
        self.text_encoder = nn.Linear(text, text)
        self.image_to_text = LiteralTranslator(image, text, p)
        self.text_to_image = LiteralTranslator(text, image, p)
        self.text_neck = Block(text + image, embedding)
        self.image_neck = Block(text + image, embedding)
        self.joint_classifier = Block(2 * embedding, classes)
        self.text_classifier = Block(embedding, classes)
        self.image_classifier = Block(embedding, classes)

    def forward(self, text: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, ...]:
        t = self.text_encoder(text)
        to_image = self.text_to_image(t)
        text_cycle = self.image_to_text(to_image)
        to_text = self.image_to_text(v)
        image_cycle = self.text_to_image(to_text)
        f_t, f_v = torch.cat([t, to_image], -1), torch.cat([to_text, v], -1)
        z_t, z_v = self._block(self.text_neck, f_t), self._block(self.image_neck, f_v)
        translation = (
            self.weights.text_cycle * F.l1_loss(t, text_cycle)
            + self.weights.image_cycle * F.l1_loss(v, image_cycle)
            + self.weights.text_from_image * F.l1_loss(t, to_text)
            + self.weights.image_from_text * F.l1_loss(v, to_image)
        )
        joint = self._block(self.joint_classifier, torch.cat([z_t, z_v], -1))
        return (
            joint,
            self._block(self.text_classifier, z_t),
            self._block(self.image_classifier, z_v),
            f_t,
            f_v,
            translation,
        )

    def _block(self, block: Block, x: torch.Tensor) -> torch.Tensor:
        return block.linear2(F.leaky_relu(block.linear1(x), 0.1))


class LiteralStep:
    """One bi-level step; `clock` takes the processor time of its phases."""

    def __init__(
        self, text: int, image: int, embedding: int, classes: int, *, p: float, rates: dict[str, float]
    ) -> None:
        weights = TranslationWeights(text_cycle=0.05, image_cycle=0.05, text_from_image=2.0, image_from_text=0.2)
        self.network = LiteralNetwork(text, image, embedding, classes, p, weights)
        width = 3 * classes + text + image
        self.weight_nets = nn.ModuleList([WeightNet(width, 128), WeightNet(width, 128)])
        self.inner_rate = rates["inner"]
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=rates["outer"], momentum=0.9, weight_decay=2e-4)
        self.weight_optimiser = torch.optim.Adam(
            self.weight_nets.parameters(), lr=rates["weights"], betas=(0.5, 0.999), weight_decay=2e-4
        )
        self.seconds: dict[str, float] = dict.fromkeys(REFERENCE_MS, 0.0)

    def __call__(self, batch: Vectors, meta: Vectors) -> None:
        theta = dict(self.network.named_parameters())
        with self.clock("virtual pass and step"):
            loss = self.loss(self.network(batch.text, batch.image), batch.labels, self.weigh)
        with self.clock("first gradient, with graph"):
            gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        with self.clock("virtual pass and step"):
            moved = {
                name: value - self.inner_rate * gradient
                for (name, value), gradient in zip(theta.items(), gradients, strict=True)
            }
        with self.clock("meta pass, Adam"):
            joint, text, image, *_ = functional_call(self.network, moved, (meta.text, meta.image))
            labels = labels_of(meta)
            meta_loss = sum(F.cross_entropy(y, label) for y, label in zip((joint, text, image), labels, strict=True))
            self.weight_optimiser.zero_grad()
        with self.clock("meta back-pass"):
            meta_loss.backward()
        with self.clock("meta pass, Adam"):
            self.weight_optimiser.step()
        with self.clock("real pass"):
            loss = self.loss(self.network(batch.text, batch.image), batch.labels, torch.no_grad()(self.weigh))
            self.optimiser.zero_grad()
        with self.clock("real back-pass"):
            loss.backward()
        with self.clock("clipping"):
            for part in BACKBONE:
                nn.utils.clip_grad_norm_(self.network.get_submodule(part).parameters(), 2.0)
        with self.clock("SGD"):
            self.optimiser.step()

    def loss(self, found: tuple[torch.Tensor, ...], labels: torch.Tensor, weigh: Callable[..., Any]) -> torch.Tensor:
        joint, text, image, f_t, f_v, translation = found
        onehot = F.one_hot(labels, joint.shape[-1]).to(joint.dtype)
        w_t = weigh(0, torch.cat([onehot, joint, text, f_t], -1).detach())
        w_v = weigh(1, torch.cat([onehot, joint, image, f_v], -1).detach())
        return (
            translation
            + F.cross_entropy(joint, labels)
            + (w_t * F.cross_entropy(text, labels, reduction="none")).mean()
            + (w_v * F.cross_entropy(image, labels, reduction="none")).mean()
        )

    def weigh(self, which: int, s: torch.Tensor) -> Any:
        return self.weight_nets[which](s)

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        started = time.process_time()
        yield
        self.seconds[phase] += time.process_time() - started

    def copy_from(self, network: CtmwaNetwork) -> None:
        """Begin where our network is; what it does not have stays as it was drawn."""
        with torch.no_grad():
            for _name, value in self._ours(network):
                value[0].copy_(value[1])

    def largest_difference(self, network: CtmwaNetwork) -> float:
        """To our network's parameters, over all that both have."""
        return max(float((mine - ours).detach().abs().max()) for _, (mine, ours) in self._ours(network))

    def _ours(self, network: CtmwaNetwork) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
        theirs = dict(self.network.named_parameters())
        nets = zip(("text_weight_net", "image_weight_net"), self.weight_nets, strict=True)
        theirs |= {f"{name}.{key}": value for name, net in nets for key, value in net.named_parameters()}
        for name, ours in network.named_parameters():
            kernel = name.replace("hidden", "convolution")
            found = theirs.get(name, theirs.get(kernel))
            assert found is not None, name
            yield name, (found[:, 0, 2, :] if found.dim() == 4 else found, ours)
