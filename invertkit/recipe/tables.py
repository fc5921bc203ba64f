"""What exists: one explicit table per kind of part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, final

PartKind = Literal["objective", "variable", "optimizer", "player", "model", "finish"]


KINDS: Final[tuple[PartKind, ...]] = (
    "objective", "variable", "optimizer", "player", "model", "finish",
)  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class PartEntry:
    """A line of a table.

    Args:
        path: `package.module:Class` of the part, or for models of the function that makes it.
        summary: What it is, in a line.
        source: Where it comes from.
    """

    path: str
    summary: str
    source: str = "ours"


def _table(**entries: PartEntry) -> Mapping[str, PartEntry]:
    return MappingProxyType(entries)


OBJECTIVES: Final = _table(
    activation=PartEntry(
        "invertkit.objectives.outputs:Activation",
        "mean squared activation of a layer or channel",
        "DeepDream, 2015",
    ),
    agreement=PartEntry(
        "invertkit.objectives.competition:Agreement",
        "a second network sees the class that the classifier sees",
        "DeepInversion's verifier, CVPR 2020",
    ),
    attention=PartEntry(
        "invertkit.objectives.outputs:Attention",
        "the classifier's attention lies in the target mask",
        "IMAGINE, CVPR 2021; Grad-CAM, 2017",
    ),
    batch_norm_statistics=PartEntry(
        "invertkit.objectives.statistics:BatchNormStatistics",
        "agreement with the statistics stored in batch-norm layers",
        "DeepInversion, CVPR 2020",
    ),
    competition=PartEntry(
        "invertkit.objectives.competition:Competition",
        "a student disagrees with the classifier",
        "Adaptive DeepInversion, CVPR 2020",
    ),
    critic_score=PartEntry(
        "invertkit.objectives.asked_players:CriticScore",
        "what a patch critic, trained meanwhile, thinks of the image",
        "IMAGINE, CVPR 2021; MAGIC, AAAI 2023",
    ),
    cross_entropy=PartEntry(
        "invertkit.objectives.outputs:CrossEntropy",
        "the class of the reference, or a given one",
        "MAGIC Eq. 2",
    ),
    feature_cosine=PartEntry(
        "invertkit.objectives.feature_cosine:FeatureCosine",
        "angle between a network's features of the image and of the reference",
    ),
    feature_distance=PartEntry(
        "invertkit.objectives.style:FeatureDistance",
        "a network's features of the reference, at the same place",
        "Gatys et al., CVPR 2016",
    ),
    feature_statistics=PartEntry(
        "invertkit.objectives.statistics:FeatureStatistics",
        "channel means and deviations of the reference, in any layers",
        "IMAGINE, CVPR 2021; MAGIC, AAAI 2023",
    ),
    gram_matrices=PartEntry(
        "invertkit.objectives.style:GramMatrices",
        "the reference's Gram matrices in any layers: texture without layout",
        "Gatys et al., CVPR 2016",
    ),
    kl_divergence=PartEntry(
        "invertkit.objectives.outputs:KLDivergence",
        "the softmax of the reference",
        "MAGIC Eq. 1",
    ),
    lpips=PartEntry(
        "invertkit.objectives.lpips:LPIPS",
        "learned perceptual distance to the reference, in a region if there is one",
        "Zhang et al. 2018; Huh et al. 2020",
    ),
    mask_bce=PartEntry(
        "invertkit.objectives.asked_players:MaskBCE",
        "a segmenter finds the object where the target mask says",
        "MAGIC, AAAI 2023",
    ),
    nearest_patches=PartEntry(
        "invertkit.objectives.patches.nearest:NearestPatches",
        "every patch looks like some patch of the reference, at the right place of the object",
        "ours, after Kwatra et al. 2005, Wexler et al. 2007, GPNN 2022",
    ),
    norm=PartEntry("invertkit.objectives.priors:Norm", "length of the image, plain or squared",
               "Mahendran & Vedaldi, CVPR 2015"),
    patch_swd=PartEntry(
        "invertkit.objectives.patches.sliced:PatchSWD",
        "sliced Wasserstein distance between patch distributions",
        "ours, after Rabin et al. 2011",
    ),
    pixel_distance=PartEntry(
        "invertkit.objectives.reference:PixelDistance",
        "difference to the reference, pixel by pixel",
    ),
    range=PartEntry("invertkit.objectives.priors:Range", "pixels stay in [0, 1]"),
    total_variation=PartEntry(
        "invertkit.objectives.priors:TotalVariation",
        "smoothness, in three published forms",
        "Rudin et al. 1992; Mahendran & Vedaldi 2015",
    ),
    weight_deviation=PartEntry(
        "invertkit.objectives.reference:WeightDeviation",
        "how far a network's weights have moved from where they started",
        "Huh et al. 2020",
    ),
)  # fmt: skip


VARIABLES: Final = _table(
    fourier=PartEntry(
        "invertkit.variables.fourier:Fourier", "the image's scaled spectrum", "lucid, 2017"
    ),
    hold=PartEntry(
        "invertkit.variables.wrappers:Hold",
        "another variable, with the reference held fixed in a region",
    ),
    latent=PartEntry(
        "invertkit.variables.latent:Latent",
        "a generator's latents and class embeddings",
        "Huh et al., ECCV 2020",
    ),
    jitter=PartEntry(
        "invertkit.variables.wrappers:Jitter",
        "another variable, shifted at random on each step",
        "DeepInversion, CVPR 2020",
    ),
    augmented=PartEntry(
        "invertkit.variables.augmented:Augmented",
        "another variable, seen in random crops, colours and noise on each step",
        "Ghiasi et al., ICML 2022",
    ),
    pixels=PartEntry("invertkit.variables.pixels:Pixels", "the pixels as they are"),
    transformed=PartEntry(
        "invertkit.variables.transformed:Transformed",
        "a generator's picture, moved and recoloured to where the object is",
        "Huh et al., ECCV 2020",
    ),
    tuned=PartEntry(
        "invertkit.variables.tuned:Tuned",
        "a generator's latents together with a change of its weights",
        "Huh et al., ECCV 2020",
    ),
)


OPTIMIZERS: Final = _table(
    adam=PartEntry(
        "invertkit.optimizers.torch_optim:Adam",
        "Adam; warm-up and cosine by the schedule of its learning rate",
        "Kingma & Ba 2015",
    ),
    basin_cma=PartEntry(
        "invertkit.optimizers.population.basin:BasinCMA",
        "a population search whose candidates descend before they are judged",
        "Wampler & Popović 2009; Huh et al., ECCV 2020",
    ),
    cma_adam=PartEntry(
        "invertkit.optimizers.population.basin:cma_adam",
        "a population search, then a descent from its last population",
        "Huh et al., ECCV 2020",
    ),
    cma_es=PartEntry(
        "invertkit.optimizers.population.cma_es:CmaEs",
        "CMA-ES, a population for each image, without gradients",
        "Hansen 2016",
    ),
    clip=PartEntry(
        "invertkit.optimizers.wrappers:Clip",
        "an optimizer whose pixels are cut to the valid range after each step",
        "DeepInversion, CVPR 2020",
    ),
    keep_best=PartEntry(
        "invertkit.optimizers.wrappers:KeepBest",
        "an optimizer that ends each stage at the best point seen",
    ),
    lbfgs=PartEntry(
        "invertkit.optimizers.torch_optim:LBFGS",
        "L-BFGS with strong Wolfe line search",
        "Liu & Nocedal 1989",
    ),
    torch=PartEntry(
        "invertkit.optimizers.torch_optim:TorchOptimizer", "any optimizer of torch.optim, by name"
    ),
)


PLAYERS: Final = _table(
    patch_critic=PartEntry(
        "invertkit.players.critic:PatchCritic",
        "WGAN-GP critic of patches, trained while the image is optimised",
        "IMAGINE, CVPR 2021; MAGIC, AAAI 2023",
    ),
    segmenter=PartEntry(
        "invertkit.players.segmenter:Segmenter",
        "encoder–decoder trained on the image and its mask",
        "MAGIC, AAAI 2023",
    ),
)


MODELS: Final = _table(
    biggan=PartEntry(
        "invertkit.models.generators.open:biggan",
        "BigGAN-deep 128, 256 or 512 from a local file of the published port",
        "Brock et al. 2019",
    ),
    classifier=PartEntry(
        "invertkit.models.classifiers.open:open_classifier",
        "any classifier by one word: of the catalogue, timm:NAME, torchvision:NAME, a file",
    ),
    embedded=PartEntry(
        "invertkit.models.classifiers.sources.embedded:embedded",
        "the small quasi-robust classifier that the package carries",
    ),
    embedded_discriminator=PartEntry(
        "invertkit.models.generators.open:embedded_discriminator",
        "the discriminator that the embedded generator was trained against",
    ),
    embedded_encoder=PartEntry(
        "invertkit.models.generators.open:embedded_encoder",
        "an encoder for the embedded generator",
    ),
    embedded_generator=PartEntry(
        "invertkit.models.generators.open:embedded_generator",
        "the small class-conditional generator that the package carries",
    ),
    encoder=PartEntry(
        "invertkit.models.generators.encoder_file:encoder",
        "an encoder of your own training for a generator",
        "Suzuki et al. 2018",
    ),
    lpips=PartEntry(
        "invertkit.models.perceptual.lpips:lpips",
        "the network of LPIPS, or the embedded classifier in its place",
        "Zhang et al. 2018",
    ),
    robust=PartEntry(
        "invertkit.models.classifiers.sources.robust:robust",
        "adversarially trained classifiers of the catalogue, from their hub or a file",
        "Salman et al. 2020; Engstrom et al. 2019",
    ),
    sngan=PartEntry(
        "invertkit.models.generators.sngan.open:sngan",
        "SNGAN of 128 or 256 pixels from a local file that Neural Collage published",
        "Miyato & Koyama 2018; Suzuki et al. 2018",
    ),
    sngan_discriminator=PartEntry(
        "invertkit.models.generators.sngan.open:sngan_discriminator",
        "the discriminator that SNGAN was trained against, from its published file",
        "Miyato & Koyama 2018",
    ),
    sngan_encoder=PartEntry(
        "invertkit.models.generators.sngan.open:sngan_encoder",
        "the encoder that starts a projection into SNGAN, from its published file",
        "Suzuki et al. 2018",
    ),
    timm=PartEntry(
        "invertkit.models.classifiers.sources.timm:from_timm", "any classifier of timm, by name"
    ),
    torchvision=PartEntry(
        "invertkit.models.classifiers.sources.torchvision:from_torchvision",
        "any classifier of torchvision, by name",
    ),
    zeta=PartEntry(
        "invertkit.models.generators.zeta_file:zeta",
        "a generator's auxiliary space, from a file of your own training or SNGAN's published one",
        "Suzuki et al. 2018",
    ),
)


FINISHES: Final = _table(
    blend=PartEntry(
        "invertkit.apps.editing.blend:Blend",
        "other pictures' features in the photograph's projection, where masks want them",
        "Neural Collage, 2018",
    ),
    collage=PartEntry(
        "invertkit.apps.editing.collage:Collage",
        "other classes in the photograph's projection, where a map wants them",
        "Neural Collage, 2018",
    ),
)


TABLES: Final[Mapping[PartKind, Mapping[str, PartEntry]]] = MappingProxyType(
    {
        "objective": OBJECTIVES,
        "variable": VARIABLES,
        "optimizer": OPTIMIZERS,
        "player": PLAYERS,
        "model": MODELS,
        "finish": FINISHES,
    }
)
