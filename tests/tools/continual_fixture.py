"""Steps of every continual-learning method in PyTorch, for the tests of `clr-continual`.

    cargo test --release -p clr-continual -- --ignored writes_the_random_draws    # writes draws.json to the temporary directory
    python tests/tools/continual_fixture.py draws.json host-tools/continual/src/tests/fixture.pkl

A tiny network with batch norms, two tasks of twelve images, five steps each with batches of four, no augmentation. It is written from the
formulas of the papers and shares no code with the project. Random choices (signs, masks, draws from a buffer) come from the project, as
`draws.json`. All is computed in float64 and rounded to float32 in the pickle, so that differences are rounding errors of the project alone.

Arrays of a method, each the concatenation of tensors in a fixed order:

    losses                   the loss with its penalty, of each step
    task<t>.step<s>          after every step: weights, scales and biases of the norms, their statistics, the task's head
    task<t>.step<s>.state    after every step: state of the method that a step changes (`step_state`)
    task<t>.end              after the task: state that the method keeps for later tasks (`kept`)
    logits<t>                logits of the task's images after both tasks

An array that equals that of `sgd`, such as those of a penalty's first task, is left out.

Needs: numpy, torch.
"""

import json
import pickle
import sys

import numpy
import torch
from torch.nn import functional

DRAWS = json.load(open(sys.argv[1]))
CLASSES = [3, 2]
RATE = 0.02
STEPS, BATCH, IMAGES = 5, 4, 12
SIZES = {"a": (8, 3, 3, 3), "b": (8, 1, 3, 3), "c": (16, 8, 1, 1)}
EPS = 1e-3
torch.set_default_dtype(torch.float64)


def single(values):
    """Values in float32, as the project has them."""
    return torch.tensor(values, dtype=torch.float32).double()


def make():
    random = torch.Generator().manual_seed(7)
    normal = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float32)
    values = {}
    for name, shape in SIZES.items():
        fan = shape[1] * shape[2] * shape[3]
        values[f"{name}.weight"] = normal(*shape) * (2 / fan) ** 0.5
    for name, shape in SIZES.items():
        values[f"{name}.gamma"] = 1 + 0.2 * normal(shape[0])
        values[f"{name}.beta"] = 0.2 * normal(shape[0])
        values[f"{name}.mean"] = 0.2 * normal(shape[0])
        values[f"{name}.variance"] = 1 + 0.3 * torch.rand(shape[0], generator=random, dtype=torch.float32)
    for task, classes in enumerate(CLASSES):
        values[f"head{task}.weight"] = 0.2 * normal(classes, 16)
        values[f"head{task}.bias"] = 0.1 * normal(classes)
    images = torch.randint(0, 256, (2, IMAGES, 8, 8, 3), generator=random, dtype=torch.uint8)
    labels = torch.tensor([[i % classes for i in range(IMAGES)] for classes in CLASSES])
    return {name: value.double() for name, value in values.items()}, images, labels


START, PIXELS, LABELS = make()


def tensor(images):
    """Preprocessed: (value / 255 − 0.5) / 0.25, NCHW."""
    return ((images.double() / 255 - 0.5) / 0.25).permute(0, 3, 1, 2).contiguous()


class Norms:
    """γ, β, μ, σ² of the three norms."""

    def __init__(self, values):
        self.affine = {}
        self.running = {}
        for name in SIZES:
            self.affine[name] = [values[f"{name}.{part}"].clone().requires_grad_() for part in ("gamma", "beta")]
            self.running[name] = [values[f"{name}.{part}"].clone() for part in ("mean", "variance")]

    def copy(self):
        other = Norms(START)
        for name in SIZES:
            other.affine[name] = [value.detach().clone().requires_grad_() for value in self.affine[name]]
            other.running[name] = [value.clone() for value in self.running[name]]
        return other

    def variables(self):
        return [value for name in SIZES for value in self.affine[name]]


class Net:
    def __init__(self):
        self.weights = {name: START[f"{name}.weight"].clone().requires_grad_() for name in SIZES}
        self.norms = [Norms(START)]
        self.heads = []

    def add_head(self, task):
        self.heads.append([START[f"head{task}.{part}"].clone().requires_grad_() for part in ("weight", "bias")])

    def features(self, x, norms, train, weight=lambda name, w: w, after=lambda name, y: y, before=lambda name, x: None):
        for name, (stride, groups, padding, clamp) in {"a": (2, 1, 1, True), "b": (1, 8, 1, True), "c": (1, 1, 0, False)}.items():
            before(name, x)
            x = functional.conv2d(x, weight(name, self.weights[name]), None, stride, padding, 1, groups)
            x = after(name, x)
            mean, variance = norms.running[name]
            x = functional.batch_norm(x, mean, variance, *norms.affine[name], train, 0.1, EPS)
            if clamp:
                x = functional.relu6(x)
        return x.mean((2, 3))

    def logits(self, features, task):
        return functional.linear(features, *self.heads[task])

    def backbone(self, norms=0):
        return list(self.weights.values()) + self.norms[norms].variables()


def flat(parts):
    return numpy.concatenate([numpy.zeros(0)] + [part.detach().flatten().numpy() for part in parts]).astype("<f4")


def indices(step):
    return [(BATCH * step + i) % IMAGES for i in range(BATCH)]


def batch(task, step):
    chosen = indices(step)
    return tensor(PIXELS[task][chosen]), LABELS[task][chosen]


def images(task):
    return tensor(PIXELS[task])


class Method:
    """Fine-tuning of everything; the others change parts of it."""

    name = "sgd"

    def __init__(self):
        self.net = Net()

    def begin(self, task):
        self.net.add_head(task)

    def norms(self, task):
        return 0

    def variables(self, task, step):
        return self.net.backbone() + self.net.heads[task]

    def optimiser(self, task, variables):
        return torch.optim.SGD(variables, RATE, momentum=0.9)

    def loss(self, task, step):
        x, labels = batch(task, step)
        return functional.cross_entropy(self.net.logits(self.net.features(x, self.net.norms[0], True), task), labels)

    def penalty(self):
        return torch.tensor(0.0)

    def stepped(self, task, step, before, gradients):
        pass

    def end(self, task):
        pass

    def eval_features(self, task, x):
        return self.net.features(x, self.net.norms[self.norms(task)], False)

    def answer(self, task):
        return self.net.logits(self.eval_features(task, images(task)), task)

    def snapshot(self, task):
        norms = self.net.norms[self.norms(task)]
        running = [value for name in SIZES for value in norms.running[name]]
        head = self.net.heads[0 if len(self.net.heads) == 1 else task]
        return list(self.net.weights.values()) + norms.variables() + running + head

    def step_state(self, task):
        return []

    def kept(self):
        return []

    def run(self):
        record, losses = {}, []
        for task in (0, 1):
            self.begin(task)
            optimiser, trained = None, None
            for step in range(STEPS):
                variables = self.variables(task, step)
                if optimiser is None or len(variables) != len(trained):
                    optimiser, trained = self.optimiser(task, variables), variables
                optimiser.zero_grad()
                before = [value.detach().clone() for value in variables]
                loss = self.loss(task, step)
                grads = torch.autograd.grad(loss, variables, allow_unused=True)
                penalty = self.penalty()
                if penalty.requires_grad:
                    more = torch.autograd.grad(penalty, variables, allow_unused=True)
                else:
                    more = [None] * len(variables)
                for value, grad, extra in zip(variables, grads, more):
                    value.grad = sum(part for part in (grad, extra) if part is not None) if (grad is not None or extra is not None) else None
                optimiser.step()
                self.stepped(task, step, before, grads)
                losses.append((loss + penalty).item())
                record[f"task{task}.step{step}"] = flat(self.snapshot(task))
                record[f"task{task}.step{step}.state"] = flat(self.step_state(task))
            self.end(task)
            record[f"task{task}.end"] = flat(self.kept())
        for task in (0, 1):
            record[f"logits{task}"] = flat([self.answer(task)])
        record["losses"] = numpy.array(losses, "<f4")
        return {key: values for key, values in record.items() if values.size}


class SgdLastLayer(Method):
    name = "sgd-ll"

    def begin(self, task):
        if not self.net.heads:
            self.net.add_head(0)

    def variables(self, task, step):
        return self.net.heads[0]

    def optimiser(self, task, variables):
        return torch.optim.Adam(variables, RATE)

    def first(self, features, task):
        return self.net.logits(features, 0)[:, : CLASSES[task]]

    def loss(self, task, step):
        x, labels = batch(task, step)
        with torch.no_grad():
            features = self.net.features(x, self.net.norms[0], False)
        return functional.cross_entropy(self.first(features, task), labels)

    def answer(self, task):
        return self.first(self.eval_features(task, images(task)), task)


class Ewc(Method):
    name = "ewc"
    strength = 100.0

    def __init__(self):
        super().__init__()
        self.old = []

    def fisher(self, task):
        variables = self.net.backbone()
        sums = [torch.zeros_like(value) for value in variables]
        for x in images(task):
            log_p = functional.log_softmax(self.net.logits(self.net.features(x[None], self.net.norms[0], False), task), 1)[0]
            for c in range(CLASSES[task]):
                grads = torch.autograd.grad(log_p[c], variables, retain_graph=True)
                for total, grad in zip(sums, grads):
                    total += log_p[c].detach().exp() * grad**2
        return [total / IMAGES for total in sums]

    def penalty(self):
        total = torch.tensor(0.0)
        for fisher, anchor in self.old:
            for value, f, a in zip(self.net.backbone(), fisher, anchor):
                total = total + self.strength / 2 * (f * (value - a) ** 2).sum()
        return total

    def end(self, task):
        fisher = self.fisher(task)
        # The cap of the implementation must not be active in this fixture.
        assert max(f.max() for f in fisher) < 0.5 / (RATE * self.strength), [f.max() for f in fisher]
        self.old.append((fisher, [value.detach().clone() for value in self.net.backbone()]))

    def kept(self):
        """A = ΣFˢ and θ̄ = ΣFˢθ*ˢ / A, 0 where A is 0."""
        total = [sum(parts) for parts in zip(*(fisher for fisher, _ in self.old))]
        weighted = [sum(f * a for f, a in parts) for parts in zip(*(zip(fisher, anchor) for fisher, anchor in self.old))]
        return total + [torch.where(a > 0, w / a, 0) for w, a in zip(weighted, total)]


class OnlineEwc(Ewc):
    name = "online-ewc"
    keep = 0.9

    def penalty(self):
        if not self.old:
            return torch.tensor(0.0)
        fisher, anchor = self.old[0]
        pairs = zip(self.net.backbone(), fisher, anchor)
        return self.strength / 2 * sum((self.keep * f * (value - a) ** 2).sum() for value, f, a in pairs)

    def end(self, task):
        fisher = self.fisher(task)
        if self.old:
            fisher = [self.keep * old + new for old, new in zip(self.old[0][0], fisher)]
        self.old = [(fisher, [value.detach().clone() for value in self.net.backbone()])]

    def kept(self):
        return self.old[0][0] + self.old[0][1]


class SynapticIntelligence(Method):
    name = "si"
    strength, damping = 200.0, 0.1

    def __init__(self):
        super().__init__()
        self.anchor = [value.detach().clone() for value in self.net.backbone()]
        self.importance = [torch.zeros_like(value) for value in self.anchor]

    def begin(self, task):
        super().begin(task)
        self.path = [torch.zeros_like(value) for value in self.anchor]

    def penalty(self):
        triples = zip(self.net.backbone(), self.importance, self.anchor)
        return self.strength * sum((omega * (value - a) ** 2).sum() for value, omega, a in triples)

    def stepped(self, task, step, before, gradients):
        for path, value, old, grad in zip(self.path, self.net.backbone(), before, gradients):
            path -= grad * (value.detach() - old)

    def end(self, task):
        for omega, path, value, anchor in zip(self.importance, self.path, self.net.backbone(), self.anchor):
            omega += path / ((value.detach() - anchor) ** 2 + self.damping)
            omega.clamp_(min=0)
        self.anchor = [value.detach().clone() for value in self.net.backbone()]

    def step_state(self, task):
        return self.path

    def kept(self):
        return self.importance + self.anchor


class Lwf(Method):
    name = "lwf"
    strength, temperature = 1.0, 2.0

    def begin(self, task):
        with torch.no_grad():
            features = self.eval_features(0, images(task))
            self.targets = [self.net.logits(features, old) for old in range(task)]
        super().begin(task)

    def variables(self, task, step):
        return self.net.backbone() + [value for head in self.net.heads for value in head]

    def loss(self, task, step):
        x, labels = batch(task, step)
        features = self.net.features(x, self.net.norms[0], True)
        loss = functional.cross_entropy(self.net.logits(features, task), labels)
        for old, targets in enumerate(self.targets):
            soft = (targets[indices(step)] / self.temperature).softmax(1)
            log = functional.log_softmax(self.net.logits(features, old) / self.temperature, 1)
            loss = loss - self.strength * (soft * log).sum(1).mean()
        return loss

    def step_state(self, task):
        return self.targets


class ExperienceReplay(Method):
    name = "er"
    capacity = 6

    def __init__(self):
        super().__init__()
        self.buffer, self.offers = [], 0

    def variables(self, task, step):
        return self.net.backbone() + self.net.heads[task] + [value for head in self.net.heads[:task] for value in head]

    def drawn(self, task, step, which):
        return [self.buffer[place] for place in DRAWS["draws"][task][step][which]]

    def loss(self, task, step):
        x, labels = batch(task, step)
        old = self.drawn(task, step, 0) if self.buffer else []
        if not old:
            return functional.cross_entropy(self.net.logits(self.net.features(x, self.net.norms[0], True), task), labels)
        joined = torch.cat([x] + [images(s["task"])[s["index"]][None] for s in old])
        features = self.net.features(joined, self.net.norms[0], True)
        rows = [(task, label) for label in labels] + [(s["task"], LABELS[s["task"]][s["index"]]) for s in old]
        losses = [functional.cross_entropy(self.net.logits(f[None], t), label[None]) for f, (t, label) in zip(features, rows)]
        return sum(losses) / len(losses)

    def stepped(self, task, step, before, gradients):
        for row, index in enumerate(indices(step)):
            item = {"task": task, "index": index, "logits": self.stored(row)}
            if len(self.buffer) < self.capacity:
                self.buffer.append(item)
            else:
                place = DRAWS["offers"][self.offers]
                if place < self.capacity:
                    self.buffer[place] = item
            self.offers += 1

    def stored(self, row):
        return None

    def step_state(self, task):
        """Of each place: task, label and sum of the pixels of its image, then its logits."""
        rows = []
        for s in self.buffer:
            numbers = [s["task"], LABELS[s["task"]][s["index"]].item(), PIXELS[s["task"]][s["index"]].sum().item()]
            rows += [torch.tensor(numbers).double()] + ([] if s["logits"] is None else [s["logits"]])
        return rows


class DerPlusPlus(ExperienceReplay):
    name = "der++"
    alpha, beta = 0.3, 0.5

    def loss(self, task, step):
        x, labels = batch(task, step)
        logits = self.net.logits(self.net.features(x, self.net.norms[0], True), task)
        self.logits = logits.detach()
        loss = functional.cross_entropy(logits, labels)
        if not self.buffer:
            return loss
        for which in (0, 1):
            old = self.drawn(task, step, which)
            features = self.net.features(torch.cat([images(s["task"])[s["index"]][None] for s in old]), self.net.norms[0], True)
            parts = []
            for f, s in zip(features, old):
                answer = self.net.logits(f[None], s["task"])
                if which == 0:
                    parts.append(((answer[0] - s["logits"]) ** 2).mean())
                else:
                    parts.append(functional.cross_entropy(answer, LABELS[s["task"]][s["index"]][None]))
            loss = loss + (self.alpha if which == 0 else self.beta) * sum(parts) / len(parts)
        return loss

    def stored(self, row):
        return self.logits[row]


class OwnNorms(Method):
    """Norms of each task."""

    def norms(self, task):
        return task


class Psp(OwnNorms):
    name = "psp"

    def signs(self, name, task):
        if name == "a":
            return torch.ones(SIZES[name])
        return single(DRAWS["signs"][task][name]).reshape(SIZES[name])

    def begin(self, task):
        super().begin(task)
        if task == 0:
            with torch.no_grad():
                for name in SIZES:
                    self.net.weights[name] *= self.signs(name, 0)
        else:
            self.net.norms.append(Norms(START))

    def variables(self, task, step):
        return list(self.net.weights.values()) + self.net.norms[task].variables() + self.net.heads[task]

    def features(self, task, x, train):
        return self.net.features(x, self.net.norms[task], train, weight=lambda name, w: w * self.signs(name, task))

    def loss(self, task, step):
        x, labels = batch(task, step)
        return functional.cross_entropy(self.net.logits(self.features(task, x, True), task), labels)

    def eval_features(self, task, x):
        return self.features(task, x, False)


class Masked(torch.autograd.Function):
    @staticmethod
    def forward(context, scores, constants, keep):
        order = sorted(range(scores.numel()), key=lambda i: (-abs(scores.flatten()[i].item()), i))
        mask = torch.zeros(scores.numel())
        mask[order[:keep]] = 1
        context.save_for_backward(scores, constants)
        return constants * mask.reshape(scores.shape)

    @staticmethod
    def backward(context, gradient):
        scores, constants = context.saved_tensors
        return gradient * constants * scores.sign(), None, None


class SupSup(OwnNorms):
    name = "supsup"
    density = 8

    def __init__(self):
        super().__init__()
        self.finished = []
        with torch.no_grad():
            for name in SIZES:
                self.net.weights[name].copy_(single(DRAWS["constants"][name]).reshape(SIZES[name]))
                self.net.weights[name].requires_grad_(False)
        self.net.norms = []

    def plain_norms(self):
        norms = Norms(START)
        with torch.no_grad():
            for name in SIZES:
                gamma, beta = norms.affine[name]
                mean, variance = norms.running[name]
                gamma.fill_(1), beta.fill_(0), mean.fill_(0), variance.fill_(1)
        return norms

    def keep(self, name):
        outputs, inputs, kh, kw = SIZES[name]
        count = outputs * inputs * kh * kw
        return min(count - count // 2, self.density * (outputs + inputs))

    def begin(self, task):
        super().begin(task)
        self.net.norms.append(self.plain_norms())
        self.scores = {name: single(DRAWS["scores"][task][name]).reshape(SIZES[name]).requires_grad_() for name in SIZES}

    def variables(self, task, step):
        return list(self.scores.values()) + self.net.heads[task]

    def optimiser(self, task, variables):
        return torch.optim.Adam(variables, RATE)

    def loss(self, task, step):
        x, labels = batch(task, step)
        masked = lambda name, w: Masked.apply(self.scores[name], w, self.keep(name))
        return functional.cross_entropy(self.net.logits(self.net.features(x, self.net.norms[task], True, weight=masked), task), labels)

    def end(self, task):
        with torch.no_grad():
            self.finished.append({name: Masked.apply(self.scores[name], self.net.weights[name], self.keep(name)) for name in SIZES})

    def eval_features(self, task, x):
        return self.net.features(x, self.net.norms[task], False, weight=lambda name, w: self.finished[task][name])

    def step_state(self, task):
        return list(self.scores.values())


class Eft(OwnNorms):
    name = "eft"

    def __init__(self):
        super().__init__()
        self.tasks = []

    @staticmethod
    def groups(channels, each):
        count = max(channels // each, 1)
        while channels % count:
            count -= 1
        return count

    def identity(self):
        own = {}
        for name, (channels, *_) in SIZES.items():
            wide = torch.zeros(channels, channels // self.groups(channels, 8), 3, 3)
            for c in range(channels):
                wide[c, c % wide.shape[1], 1, 1] = 1
            narrow = torch.zeros(channels, channels // self.groups(channels, 16), 1, 1)
            own[name] = [wide, torch.zeros(channels), narrow, torch.zeros(channels)]
        return own

    def begin(self, task):
        super().begin(task)
        last = self.tasks[-1] if self.tasks else self.identity()
        self.tasks.append({name: [value.detach().clone().requires_grad_() for value in values] for name, values in last.items()})
        if task:
            self.net.norms.append(self.net.norms[task - 1].copy())

    def own(self, task):
        return [value for values in self.tasks[task].values() for value in values]

    def variables(self, task, step):
        if task == 0:
            return self.net.backbone() + self.net.heads[0] + self.own(0)
        return self.net.norms[task].variables() + self.net.heads[task] + self.own(task)

    def after(self, task):
        def apply(name, y):
            wide, wide_bias, narrow, narrow_bias = self.tasks[task][name]
            channels = y.shape[1]
            first = functional.conv2d(y, wide, wide_bias, 1, 1, 1, self.groups(channels, 8))
            return first + functional.conv2d(y, narrow, narrow_bias, 1, 0, 1, self.groups(channels, 16))

        return apply

    def features(self, task, x, train):
        return self.net.features(x, self.net.norms[task], train, after=self.after(task))

    def loss(self, task, step):
        x, labels = batch(task, step)
        return functional.cross_entropy(self.net.logits(self.features(task, x, True), task), labels)

    def eval_features(self, task, x):
        return self.features(task, x, False)

    def step_state(self, task):
        return self.own(task)


class Ccll(Eft):
    name = "ccll"
    # Behind the calibration is a norm, so that the gradient of a gate is rounding, which Adam makes as large as a step.
    later_rates = {"norms": 0.0002, "head": 0.0005, "calibrations": 0.0001}

    def begin(self, task):
        self.net.add_head(task)
        own = {}
        for name, (channels, *_) in SIZES.items():
            own[name] = [torch.zeros(channels, 1, 3, 3), torch.ones(channels), torch.zeros(channels), torch.zeros(channels)]
            for value in own[name]:
                value.requires_grad_()
        self.tasks.append(own)
        self.running = getattr(self, "running", []) + [{name: [torch.zeros(c), torch.ones(c)] for name, (c, *_) in SIZES.items()}]
        if task:
            self.net.norms.append(self.net.norms[0].copy())

    def optimiser(self, task, variables):
        if task == 0:
            return super().optimiser(task, variables)
        groups = {"norms": self.net.norms[task].variables(), "head": self.net.heads[task], "calibrations": self.own(task)}
        return torch.optim.Adam([{"params": group, "lr": self.later_rates[name]} for name, group in groups.items()])

    def features(self, task, x, train):
        def apply(name, y):
            kernel, factor, scale, bias = self.tasks[task][name]
            first = y + functional.conv2d(y, kernel, None, 1, 1, 1, y.shape[1])
            mean = first.mean((2, 3), keepdim=True) * factor[:, None, None]
            normal = functional.batch_norm(mean, *self.running[task][name], scale, bias, train, 0.1, 1e-5)
            return 2 * torch.sigmoid(normal) * first

        return self.net.features(x, self.net.norms[task], train, after=apply)

    def step_state(self, task):
        return self.own(task) + [value for values in self.running[task].values() for value in values]


class Confit(OwnNorms):
    name = "confit"

    def __init__(self):
        super().__init__()
        self.means, self.finished, self.sizes = {}, [], {}

    def begin(self, task):
        super().begin(task)
        if task:
            self.net.norms.append(self.net.norms[task - 1].copy())

    def optimiser(self, task, variables):
        return torch.optim.SGD(variables, RATE)

    def variables(self, task, step):
        variables = list(self.net.heads[task])
        if step >= STEPS // 5:
            variables += self.net.norms[task].variables()
        if step >= STEPS // 2:
            variables += list(self.net.weights.values())
        return variables

    def loss(self, task, step):
        def before(name, x):
            stride = 2 if name == "a" else 1
            new = torch.stack([x[:, :, i::stride, j::stride].mean((0, 2, 3)) for i in range(stride) for j in range(stride)]).detach()
            self.means[name] = 0.9 * self.means.get(name, new) + 0.1 * new
            self.sizes[name] = x.shape[2:]

        x, labels = batch(task, step)
        features = self.net.features(x, self.net.norms[task], True, before=before)
        return functional.cross_entropy(self.net.logits(features, task), labels)

    def end(self, task):
        self.finished.append({name: value.clone() for name, value in self.means.items()})

    def step_state(self, task):
        return list(self.means.values())

    def eval_features(self, task, x):
        norms = self.net.norms[task]
        if task == 0:
            norms = norms.copy()
            for name, (stride, groups, padding) in {"a": (2, 1, 1), "b": (1, 8, 1), "c": (1, 1, 0)}.items():
                rows, columns = self.sizes[name]
                channels = self.finished[0][name].shape[1]
                flat_map = torch.zeros(1, channels, rows, columns)
                for i in range(stride):
                    for j in range(stride):
                        flat_map[0, :, i::stride, j::stride] = self.finished[0][name][i * stride + j][:, None, None]
                y = functional.conv2d(flat_map, self.net.weights[name], None, stride, padding, 1, groups)
                norms.running[name][0] = y.mean((0, 2, 3)).detach()
        return self.net.features(x, norms, False)


class Independent(Method):
    name = "independent"

    def __init__(self):
        super().__init__()
        self.finished = []

    def begin(self, task):
        heads = self.net.heads
        self.net = Net()
        self.net.heads = heads
        super().begin(task)

    def end(self, task):
        self.finished.append(self.net)

    def answer(self, task):
        net = self.finished[task]
        return net.logits(net.features(images(task), net.norms[0], False), task)


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    methods = [Method, SgdLastLayer, Ewc, OnlineEwc, SynapticIntelligence, Lwf, ExperienceReplay, DerPlusPlus, Psp, SupSup, Eft, Ccll, Confit, Independent]
    result = {"start": {name: value.numpy().astype("<f4") for name, value in START.items()}}
    result["start"]["images"] = PIXELS.numpy().astype("<f4")
    for method in methods:
        values = method().run()
        print(method.name, " ".join(f"{loss:.4f}" for loss in values["losses"]))
        plain = result.get("sgd", {})
        result[method.name] = {key: value for key, value in values.items() if not numpy.array_equal(value, plain.get(key))}
    # Arrays must not share memory, so that the reader sees each of them.
    with open(sys.argv[2], "wb") as file:
        pickle.dump(result, file, protocol=4)


main()
