"""Values of params.yaml that are refused: the text, and what the message says of it."""

from __future__ import annotations

# What a person might write -> what the message has to say: the key's path or the line, and the
# fix.
BAD = {
    "an unknown key": ("train: {epoch: 3}", ["train.epoch", "unknown", "did you mean epochs?"]),
    "an unknown key unlike any other": (
        "labels: {zzz: 3}",
        ["labels.zzz", "known here: fraction, seed"],
    ),
    "an unknown section": ("trian: {epochs: 3}", ["trian", "did you mean train?"]),
    "half of a character": (
        r'report: {title: "\ud800"}',
        [r"'\ud800' in a text is half of a character", "write the whole"],
    ),
    "no title": ("report: {title: ''}", ['report.title: "" shows nothing; write the heading']),
    "a title of what cannot be seen": (
        r'report: {title: " \n\u200b"}',
        [r'report.title: " \n\u200b" shows nothing; write the heading'],
    ),
    "a section that has another name": ("experiment: {seeds: [0]}", ["did you mean grid?"]),
    "a key outside its section": ("methods: [simclr]", ["did you mean grid.methods?"]),
    "a key of two sections outside both": (
        "batch_size: 8",
        ["batch_size: unknown key; did you mean train.batch_size or evaluation.batch_size?"],
    ),
    "one method for the list of them": ("method: byol", ["did you mean grid.methods?"]),
    "an unknown key far down": (
        "ssl: {simclr: {temprature: 1}}",
        ["ssl.simclr.temprature", "did you mean temperature?"],
    ),
    "an unknown switch": (
        "variants: {mine: {repla: true}}",
        ["variants.mine.repla", "did you mean replay?"],
    ),
    "a text for a number": (
        "train: {epochs: many}",
        ["train.epochs", '"many"', "must be a valid integer"],
    ),
    "a share above 1 where a word may stand": (
        "heads: {shrinkage: 2}",
        ["params.yaml: heads.shrinkage: 2 is not valid: must be less than or equal to 1, or auto"],
    ),
    "a size in gigabytes for one in megabytes": (
        "runtime: {step_mem_mb: 4G}",
        ['params.yaml: runtime.step_mem_mb: "4G" is not valid: must be a valid integer, or auto'],
    ),
    "a number in quotes where a word may stand": (
        "runtime: {step_mem_mb: '2000'}",
        ["runtime.step_mem_mb", "or auto; write 2000, without quotes"],
    ),
    "random features of which each class takes the square": (
        "heads: {covariance: per_class, random_features: 2000}",
        ["heads.random_features", "lower it to 1000, or set covariance to shared"],
    ),
    "more random features than one system takes": (
        "heads: {random_features: 5001}",
        ["heads.random_features", "less than or equal to 5000"],
    ),
    "a number in quotes": (
        "train: {lr: '0.1'}",
        ["train.lr", '"0.1"', "must be a valid number; write 0.1, without quotes"],
    ),
    "a power of ten in quotes": (
        "train: {lr: '1e-3'}",
        ["train.lr", '"1e-3"', "must be a valid number; write 1.0e-3, without quotes"],
    ),
    "a whole number in quotes": (
        "train: {epochs: '3'}",
        ["train.epochs", '"3"', "must be a valid integer; write 3, without quotes"],
    ),
    "a whole number as a power of ten": (
        "train: {epochs: 1e2}",
        ["train.epochs: 100.0", "must be a valid integer; write 100"],
    ),
    "a number in quotes that no file may hold": (
        "train: {lr: '1e400'}",
        ['train.lr: "1e400" is not valid: must be a valid number'],
    ),
    "a number that two versions of YAML read differently": (
        "split: {seed: 010}",
        ["params.yaml, line 1: 010 is 8 to one version of YAML and 10 to another", "write 8"],
    ),
    "a fraction for a whole number": (
        "train: {batch_size: 1.5}",
        ["train.batch_size", "1.5", "must be a valid integer"],
    ),
    "a number for a switch": (
        "grid: {specialists: 1}",
        ["grid.specialists", "write true or false"],
    ),
    "a switch for a number": (
        "train: {epochs: true}",
        ["train.epochs", "true", "must be a valid integer"],
    ),
    "a number for a list": ("grid: {seeds: 3}", ["grid.seeds", "write a list, as in [1, 2]"]),
    "a list for a section": ("dataset: [digits]", ["dataset", "write a mapping of its keys"]),
    "an empty section": ("train:", ["train", "null", "write a mapping"]),
    "one bad entry of a list": ("grid: {seeds: [0, x]}", ["grid.seeds.1", '"x"']),
    "zero epochs": ("train: {epochs: 0}", ["train.epochs", "0", "greater than or equal to 1"]),
    "a probability above one": (
        "augment: {flip: 1.2}",
        ["augment.flip", "1.2", "less than or equal to 1"],
    ),
    "a bound far down": (
        "augment: {jitter: {hue: 3}}",
        ["augment.jitter.hue", "less than or equal to 0.5"],
    ),
    "a negative seed": ("split: {seed: -1}", ["split.seed", "greater than or equal to 0"]),
    "sizes of domains": (
        "split: {by: domain, sizes: [2, 3]}",
        ["split.sizes", "no effect with split.by domain", "set it to null, or by to class"],
    ),
    "domains of classes": (
        "split: {domains: [real]}",
        ["split.domains", "no effect with split.by class", "by to domain"],
    ),
    "sizes and classes": (
        "split: {sizes: [1], classes: [[a]]}",
        ["split", "set one of them to null"],
    ),
    "a class of two tasks": (
        "split: {classes: [[a, b], [c, a]]}",
        ["split.classes", "'a' named twice"],
    ),
    "a domain twice": (
        "split: {by: domain, domains: [a, a]}",
        ["split.domains", "'a' named twice", "once"],
    ),
    "a task without classes": (
        "split: {classes: [[a], []]}",
        ["split.classes.1", "at least 1 item"],
    ),
    "a stream without tasks": ("split: {sizes: []}", ["split.sizes", "at least 1 item"]),
    "a class's name that YAML takes for a number": (
        "split: {classes: [[1]]}",
        ["split.classes.0.0: 1", "in quotes"],
    ),
    "a seed too large": (
        "grid: {seeds: [99999999999999999999999]}",
        ["grid.seeds.0", "2147483648"],
    ),
    "a bound of an optional number": (
        "image: {load_size: 1}",
        ["image.load_size", "greater than or equal to 4"],
    ),
    "a fraction that must be below one": (
        "train: {momentum: 1.5}",
        ["train.momentum", "1.5", "must be less than 1"],
    ),
    "NaN": ("train: {lr: .nan}", ["train.lr", "NaN", "must be a finite number"]),
    "an infinite decay": (
        "train: {weight_decay: .inf}",
        ["train.weight_decay", "must be a finite number"],
    ),
    "infinity": (
        "distill: {feature: {weight: .inf}}",
        ["distill.feature.weight", "must be a finite number"],
    ),
    "no choice of the listed ones": (
        "train: {optimizer: adam}",
        ["train.optimizer", '"adam"', "'sgd' or 'lars'"],
    ),
    "what no method may have for itself": (
        "per_method: {byol: {dataset: {seed: 1}}}",
        ["per_method.byol.dataset", "only augment, distill, model, train"],
    ),
    "an unknown method with parameters of its own": (
        "per_method: {byoll: {}}",
        ["per_method.byoll", "did you mean byol?"],
    ),
    "a bad value of one method": (
        "per_method: {byol: {train: {lr: -1}}}",
        ["per_method.byol.train.lr: -1", "greater"],
    ),
    "features distilled without an SSL method": (
        "variants: {mine: {self_supervised: false}}",
        ["variants.mine", "set feature_distill to false"],
    ),
    "joint training with replay": (
        "variants: {mine: {joint: true}}",
        ["variants.mine", "set feature_distill,"],
    ),
    "prototypes that the method lacks": (
        "distill: {feature: {distiller: prototype}}",
        ["distill.feature.distiller", "simclr has no prototypes", "choose auto"],
    ),
    "an unknown distiller": (
        "distill: {feature: {distiller: predictiv}}",
        ["distill.feature.distiller", "did you mean predictive?"],
    ),
    "an unknown method": (
        "grid: {methods: [moco]}",
        ["grid.methods", "'moco' is not an SSL method", "did you mean mocov2plus?"],
    ),
    "an unknown backbone": (
        "model: {backbone: resnet_18}",
        [
            "model.backbone",
            "'resnet_18' is not a backbone",
            "did you mean resnet18?",
            "timm/<any of its models>",
        ],
    ),
    "a backbone's hub address": (
        "model: {backbone: timm/hf-hub:timm/resnet18}",
        ["model.backbone", "the model's bare name", "no address"],
    ),
    "a backbone with pretrained weights": (
        "per_method: {byol: {model: {backbone: timm/resnet18.a1_in1k}}}",
        ["per_method.byol.model.backbone", "weights are never downloaded"],
    ),
    "timm without a model's name": (
        "model: {backbone: timm/}",
        ["model.backbone", "timm/resnet26d"],
    ),
    "an empty grid": ("grid: {variants: []}", ["grid.variants", "at least 1 item"]),
    "three of two numbers": (
        "augment: {blur: [0.0, 0.1, 0.2]}",
        ["augment.blur", "at most 2 items"],
    ),
    "both sizes of replay": (
        "replay: {proportion: [0.1], memory: [10]}",
        ["replay", "proportion and memory are given", "set the others to null"],
    ),
    "all sizes of replay": (
        "replay: {per_class: [1], memory: [10]}",
        ["replay", "proportion and per_class and memory are given", "set the others to null"],
    ),
    "no size of replay": (
        "replay: {proportion: null}",
        ["replay", "give replay.proportion, as in [0.1], or"],
    ),
    "an empty list of sizes": (
        "replay: {proportion: []}",
        ["replay", "as in [0.1]", "replay.per_class or replay.memory, as in [20]"],
    ),
    "an empty list of images per class": (
        "replay: {proportion: null, per_class: []}",
        ["replay", "as in [20]"],
    ),
    "a part of an image": (
        "replay: {proportion: null, per_class: [0.5]}",
        ["replay.per_class.0", "0.5", "integer"],
    ),
    "a size per class twice": (
        "replay: {proportion: null, per_class: [5, 5]}",
        ["replay.per_class", "keep each once"],
    ),
    "an unknown policy": (
        "replay: {policy: newest}",
        ["replay.policy", "'newest'", "reservoir, herding"],
    ),
    "an unknown source": (
        "dataset: {source: imagnet, path: x}",
        ["dataset.source", "'imagnet' is not a data source", "did you mean imagenet?"],
    ),
    "an unknown variant": (
        "grid: {variants: [kaisen]}",
        ["grid.variants", "'kaisen'", "did you mean kaizen?"],
    ),
    "a variant unlike any other": (
        "grid: {variants: [zz]}",
        ["grid.variants", "'zz'", "cassle", "define it under variants"],
    ),
    "a variant that hides a built-in one": (
        "variants: {cassle: {replay: true}}",
        ["variants.cassle", "choose another"],
    ),
    "a variant that hides the specialists": (
        "variants: {specialist: {}}",
        ["variants.specialist", "choose another"],
    ),
    "a variant named for a shell": (
        "variants: {'a; rm -rf ~': {}}",
        ["variants.a; rm -rf ~", "letters", "rename it"],
    ),
    "a variant named as a path": (
        "variants: {../up: {}}",
        ["variants.../up", "letters", "rename it"],
    ),
    "a mean per channel too few": (
        "image: {channels: 3, std: [1.0, 1.0, 1.0]}",
        ["image.mean", "image.channels is 3", "one per channel"],
    ),
    "a deviation too many": (
        "image: {std: [1.0, 1.0]}",
        ["image.std", "2 values", "one per channel"],
    ),
    "a deviation of zero": ("image: {std: [0.0]}", ["image.std.0", "0.00001"]),
    "a deviation that leaves no number": ("image: {std: [1.0e-30]}", ["image.std.0", "0.00001"]),
    "a mean of levels": ("image: {mean: [77.8]}", ["image.mean.0", "less than or equal to 1"]),
    "a folder of images without the folder": (
        "dataset: {source: image_folder}",
        ["dataset.path", "name it"],
    ),
    "a folder for digits": ("dataset: {path: /data}", ["dataset.path", "set it to null"]),
    "domains without the folder": ("dataset: {source: domain_folder}", ["dataset.path", "name it"]),
    "classes of digits": (
        "dataset: {classes: ['1']}",
        ["dataset.classes", "no effect for digits", "set it to null"],
    ),
    "a number for classes": (
        "dataset: {source: imagenet, path: /data, classes: 100}",
        ["dataset.classes: 100", "write a list"],
    ),
    "unlabelled images of CIFAR-10": (
        "dataset: {source: cifar10, unlabelled: true}",
        ["dataset.unlabelled", "no effect for cifar10", "set it to false"],
    ),
    "a bound of the synthetic images": (
        "dataset: {synthetic: {classes: 0}}",
        ["dataset.synthetic.classes", "0"],
    ),
    "an unknown key of the synthetic images": (
        "dataset: {synthetic: {clases: 3}}",
        ["dataset.synthetic.clases", "did you mean classes?"],
    ),
    "a warm-up longer than the training": (
        "train: {epochs: 3, warmup_epochs: 4}",
        ["train.warmup_epochs: 4", "train.epochs 3", "lower it"],
    ),
    "views of several sizes for a model of timm": (
        "model: {backbone: timm/vit_tiny_patch16_224}\ntrain: {start_size: 0.5}",
        ["train.start_size: 0.5", "timm/vit_tiny_patch16_224", "set it to 1"],
    ),
    "a seed twice": ("grid: {seeds: [1, 0, 1]}", ["grid.seeds", "[1, 0, 1]", "keep each once"]),
    "a variant twice": ("grid: {variants: [kaizen, kaizen]}", ["grid.variants", "keep each once"]),
    "a size twice": ("replay: {proportion: [1, 1.0]}", ["replay.proportion", "keep each once"]),
    "sizes of one name": (
        "replay: {proportion: [0.1, 0.1000000001]}",
        ["replay.proportion", "keep each once"],
    ),
    "a range upside down": (
        "augment: {crop_scale: [0.9, 0.3]}",
        ["augment.crop_scale", "smaller first"],
    ),
    "a key twice": (
        "train:\n  lr: 1.0\n  epochs: 3\n  lr: 2.0\n",
        ["'lr' is there twice", "lines 2 and 4", "keep one"],
    ),
    "a section twice": (
        "split: {tasks: 5}\nsplit: {seed: 1}\n",
        ["'split' is there twice", "lines 1 and 2", "keep one"],
    ),
    "a key twice in one line": (
        "labels: {seed: 1, seed: 2}",
        ["'seed' is there twice", "keep one"],
    ),
    "a key that is no text": ("train: {}\n2020: 3\n", ["line 2", "not a text", "quotes"]),
    "a key that is a date": (
        "train: {}\n2020-01-01: 3\n",
        ["line 2", "2020-01-01", "is a date to one version of YAML", "quotes"],
    ),
    "a list": ("- train\n- split\n", ["must hold a mapping of sections, not a list"]),
    "a text": ("hello", ["must hold a mapping of sections, not a text"]),
    "broken YAML": ("train: {epochs: 3\nsplit: {}", ["not valid YAML", "line 2", "fix that line"]),
    "a list that does not end": ("grid: [simclr", ["not valid YAML", "line", "fix that line"]),
    "a tab": ("train:\n\tepochs: 3", ["not valid YAML", "in line 2, column 1"]),
    "an object of Python's": (
        "train: !!python/object:os.system {}",
        ["not valid YAML", "python/object"],
    ),
    "a call of Python's": (
        "x: !!python/object/apply:os.abort []",
        ["not valid YAML", "fix"],
    ),
    "a mapping that holds itself": (
        "labels: &a {seed: *a}",
        ["not valid YAML", "recursive", "fix that line"],
    ),
    "a list that holds itself": (
        "grid: {seeds: &a [*a]}",
        ["not valid YAML", "recursive", "line 1"],
    ),
}
