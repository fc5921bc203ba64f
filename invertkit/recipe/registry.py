"""What exists: one explicit table per kind of part.

A part exists when it has a line here. The line names its class by path, so that listing the
tables imports no part and no torch; the class is imported when a recipe uses it. A user's own
parts come from a file named on the command line or from an installed package's entry points.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, final

from invertkit.errors import InputError, RecipeError

Kind = Literal["objective", "variable", "optimizer", "player", "model"]
KINDS: Final[tuple[Kind, ...]] = ("objective", "variable", "optimizer", "player", "model")


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a table.

    Args:
        path: `package.module:Class` of the part, or for models of the function that makes it.
        summary: What it is, in a line.
        source: Where it comes from.
    """

    path: str
    summary: str
    source: str = "ours"


def _table(**entries: Entry) -> Mapping[str, Entry]:
    return MappingProxyType(entries)


OBJECTIVES: Final = _table(
    activation=Entry(
        "invertkit.objectives.outputs:Activation",
        "mean squared activation of a layer or channel",
        "DeepDream, 2015",
    ),
    attention=Entry(
        "invertkit.objectives.outputs:Attention",
        "the classifier's attention lies in the target mask",
        "IMAGINE, CVPR 2021; Grad-CAM, 2017",
    ),
    batch_norm_statistics=Entry(
        "invertkit.objectives.statistics:BatchNormStatistics",
        "agreement with the statistics stored in batch-norm layers",
        "DeepInversion, CVPR 2020",
    ),
    critic_score=Entry(
        "invertkit.objectives.asked_players:CriticScore",
        "what a patch critic, trained meanwhile, thinks of the image",
        "IMAGINE, CVPR 2021; MAGIC, AAAI 2023",
    ),
    cross_entropy=Entry(
        "invertkit.objectives.outputs:CrossEntropy",
        "the class of the reference, or a given one",
        "MAGIC Eq. 2",
    ),
    feature_cosine=Entry(
        "invertkit.objectives.perceptual:FeatureCosine",
        "angle between a network's features of the image and of the reference",
    ),
    feature_statistics=Entry(
        "invertkit.objectives.statistics:FeatureStatistics",
        "channel means and deviations of the reference, in any layers",
        "IMAGINE, CVPR 2021; MAGIC, AAAI 2023",
    ),
    kl_divergence=Entry(
        "invertkit.objectives.outputs:KLDivergence",
        "the softmax of the reference",
        "MAGIC Eq. 1",
    ),
    lpips=Entry(
        "invertkit.objectives.perceptual:LPIPS",
        "learned perceptual distance to the reference, in a region if there is one",
        "Zhang et al. 2018; Huh et al. 2020",
    ),
    mask_bce=Entry(
        "invertkit.objectives.asked_players:MaskBCE",
        "a segmenter finds the object where the target mask says",
        "MAGIC, AAAI 2023",
    ),
    nearest_patches=Entry(
        "invertkit.objectives.patches.nearest:NearestPatches",
        "every patch looks like some patch of the reference, at the right place of the object",
        "ours, after Kwatra et al. 2005, Wexler et al. 2007, GPNN 2022",
    ),
    norm=Entry("invertkit.objectives.priors:Norm", "length of the image, plain or squared",
               "Mahendran & Vedaldi, CVPR 2015"),
    patch_swd=Entry(
        "invertkit.objectives.patches.sliced:PatchSWD",
        "sliced Wasserstein distance between patch distributions",
        "ours, after Rabin et al. 2011",
    ),
    pixel_distance=Entry(
        "invertkit.objectives.reference:PixelDistance",
        "difference to the reference, pixel by pixel",
    ),
    range=Entry("invertkit.objectives.priors:Range", "pixels stay in [0, 1]"),
    total_variation=Entry(
        "invertkit.objectives.priors:TotalVariation",
        "smoothness, in three published forms",
        "Rudin et al. 1992; Mahendran & Vedaldi 2015",
    ),
    weight_deviation=Entry(
        "invertkit.objectives.reference:WeightDeviation",
        "how far a network's weights have moved from where they started",
        "Huh et al. 2020",
    ),
)  # fmt: skip

VARIABLES: Final = _table(
    fourier=Entry(
        "invertkit.variables.fourier:Fourier", "the image's scaled spectrum", "lucid, 2017"
    ),
    hold=Entry(
        "invertkit.variables.pixels:Hold",
        "another variable, with the reference held fixed in a region",
    ),
    latent=Entry(
        "invertkit.variables.latent:Latent",
        "a generator's latent and class embedding",
        "Huh et al., ECCV 2020",
    ),
    jitter=Entry(
        "invertkit.variables.pixels:Jitter",
        "another variable, shifted at random on each step",
        "DeepInversion, CVPR 2020",
    ),
    pixels=Entry("invertkit.variables.pixels:Pixels", "the pixels as they are"),
    transformed=Entry(
        "invertkit.variables.latent:Transformed",
        "a generator's picture, moved and recoloured to where the object is",
        "Huh et al., ECCV 2020",
    ),
    tuned=Entry(
        "invertkit.variables.latent:Tuned",
        "a generator's latents together with a change of its weights",
        "Huh et al., ECCV 2020",
    ),
)

OPTIMIZERS: Final = _table(
    adam=Entry(
        "invertkit.optimizers.torch_optim:Adam",
        "Adam; warm-up and cosine by the schedule of its learning rate",
        "Kingma & Ba 2015",
    ),
    basin_cma=Entry(
        "invertkit.optimizers.population.basin:BasinCMA",
        "a population search whose candidates descend before they are judged",
        "Wampler & Popović 2009; Huh et al., ECCV 2020",
    ),
    cma_adam=Entry(
        "invertkit.optimizers.population.basin:cma_adam",
        "a population search, then a descent from its last population",
        "Huh et al., ECCV 2020",
    ),
    cma_es=Entry(
        "invertkit.optimizers.population.basin:CmaEs",
        "CMA-ES, a population for each image, without gradients",
        "Hansen 2016",
    ),
    clip=Entry(
        "invertkit.optimizers.wrappers:Clip",
        "an optimizer whose pixels are cut to the valid range after each step",
        "DeepInversion, CVPR 2020",
    ),
    keep_best=Entry(
        "invertkit.optimizers.wrappers:KeepBest",
        "an optimizer that ends each stage at the best point seen",
    ),
    lbfgs=Entry(
        "invertkit.optimizers.torch_optim:LBFGS",
        "L-BFGS with strong Wolfe line search",
        "Liu & Nocedal 1989",
    ),
    torch=Entry(
        "invertkit.optimizers.torch_optim:TorchOptimizer", "any optimizer of torch.optim, by name"
    ),
)

PLAYERS: Final = _table(
    patch_critic=Entry(
        "invertkit.players.critic:PatchCritic",
        "WGAN-GP critic of patches, trained while the image is optimised",
        "IMAGINE, CVPR 2021; MAGIC, AAAI 2023",
    ),
    segmenter=Entry(
        "invertkit.players.segmenter:Segmenter",
        "encoder–decoder trained on the image and its mask",
        "MAGIC, AAAI 2023",
    ),
)

MODELS: Final = _table(
    biggan=Entry(
        "invertkit.models.generators.open:biggan",
        "BigGAN-deep 128, 256 or 512 from a local file of the published port",
        "Brock et al. 2019",
    ),
    classifier=Entry(
        "invertkit.models.classifiers.open:open_classifier",
        "any classifier by one word: of the catalogue, timm:NAME, torchvision:NAME, a file",
    ),
    embedded=Entry(
        "invertkit.models.classifiers.open:embedded",
        "the small quasi-robust classifier that the package carries",
    ),
    embedded_discriminator=Entry(
        "invertkit.models.generators.open:embedded_discriminator",
        "the discriminator that the embedded generator was trained against",
    ),
    embedded_encoder=Entry(
        "invertkit.models.generators.open:embedded_encoder",
        "an encoder for the embedded generator",
    ),
    embedded_generator=Entry(
        "invertkit.models.generators.open:embedded_generator",
        "the small class-conditional generator that the package carries",
    ),
    lpips=Entry(
        "invertkit.models.perceptual:lpips",
        "the network of LPIPS, or the embedded classifier in its place",
        "Zhang et al. 2018",
    ),
    robust=Entry(
        "invertkit.models.classifiers.open:robust",
        "adversarially trained classifiers of the catalogue, from their hub or a file",
        "Salman et al. 2020; Engstrom et al. 2019",
    ),
    timm=Entry("invertkit.models.classifiers.open:from_timm", "any classifier of timm, by name"),
    torchvision=Entry(
        "invertkit.models.classifiers.open:from_torchvision",
        "any classifier of torchvision, by name",
    ),
)

_TABLES: Final[Mapping[Kind, Mapping[str, Entry]]] = MappingProxyType(
    {
        "objective": OBJECTIVES,
        "variable": VARIABLES,
        "optimizer": OPTIMIZERS,
        "player": PLAYERS,
        "model": MODELS,
    }
)


@final
@dataclass(frozen=True)
class Registry:
    """The tables, with what a user has added.

    Args:
        own: Classes from `--parts` files, by kind and name.
    """

    own: Mapping[Kind, Mapping[str, Any]] = field(default_factory=dict)

    def names(self, kind: Kind) -> list[str]:
        """Every name of a kind, in order."""
        return sorted({*_TABLES[kind], *self.own.get(kind, {}), *_entry_points(kind)})

    def summary(self, kind: Kind, name: str) -> str:
        """What the part is, in a line."""
        if name in _TABLES[kind]:
            return _TABLES[kind][name].summary
        return (inspect.getdoc(self.load(kind, name)) or "").split("\n")[0]

    def load(self, kind: Kind, name: str, *, at: str = "") -> Any:
        """The class, or for models the function, of that name.

        Raises:
            RecipeError: There is none; the message starts with `at` and suggests a name.
        """
        if name in self.own.get(kind, {}):
            return self.own[kind][name]
        if name in _TABLES[kind]:
            module, _, attribute = _TABLES[kind][name].path.partition(":")
            return getattr(importlib.import_module(module), attribute)
        if name in (points := _entry_points(kind)):
            return points[name].load()
        near = get_close_matches(name, self.names(kind), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise RecipeError(
            f"{at}.type: unknown {kind} {name!r}.{hint} Known: {', '.join(self.names(kind))}."
        )

    def with_parts(self, path: Path) -> Registry:
        """These tables and the parts defined in a Python file; see `docs/extending.md`.

        Every class in the file that is an `Objective`, `Variable`, `Optimizer` or `Player` becomes
        a part, named in snake case; a function annotated to return a `Classifier`, `Generator` or
        `Encoder` becomes a model.

        Raises:
            InputError: The file is missing or fails to import, or defines no part.
        """
        module = _import_file(path)
        own: dict[Kind, dict[str, Any]] = {kind: dict(self.own.get(kind, {})) for kind in KINDS}
        found = [(kind, part) for part in vars(module).values() for kind in _kind_of(part, module)]
        if not found:
            raise InputError(
                f"{path}: defines no part. A part is a class derived from Objective, Variable, "
                "Optimizer or Player, or a function annotated to return a Classifier, Generator or "
                "Encoder."
            )
        for kind, part in found:
            own[kind][snake_case(part.__name__)] = part
        return Registry(own)


def snake_case(name: str) -> str:
    """`MeanRed` -> `mean_red`, `PatchSWD` -> `patch_swd`."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return split.lower()


def _entry_points(kind: Kind) -> dict[str, importlib.metadata.EntryPoint]:
    group = importlib.metadata.entry_points(group=f"invertkit.{kind}s")
    return {point.name: point for point in group}


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file; `--parts` names a Python file with your parts.")
    name = f"invertkit_parts_{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: not a Python file; `--parts` names a file ending in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{path}: cannot be imported ({type(error).__name__}: {error})."
        ) from error
    return module


def _kind_of(part: Any, module: Any) -> Iterator[Kind]:
    from invertkit.models.classifiers.classifier import Classifier
    from invertkit.models.generators.generator import Encoder, Generator
    from invertkit.objectives.base import Objective
    from invertkit.optimizers.base import Optimizer
    from invertkit.players.base import Player
    from invertkit.variables.base import Variable

    if getattr(part, "__module__", None) != module.__name__:
        return
    roles: dict[Kind, type] = {
        "objective": Objective,
        "variable": Variable,
        "optimizer": Optimizer,
        "player": Player,
    }
    if inspect.isclass(part) and not inspect.isabstract(part):
        yield from (kind for kind, role in roles.items() if issubclass(part, role))
    elif inspect.isfunction(part):
        returned = part.__annotations__.get("return")
        kinds = (Classifier, Generator, Encoder)
        if returned in (*kinds, *(kind.__name__ for kind in kinds)):
            yield "model"
