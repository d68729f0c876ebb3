"""Texts that stand in every model card."""

from __future__ import annotations

LIMITS = """\
It is made for research on continual learning, and for classifying images like those it was trained
on: of these classes, at this size, normalised as this page says. It always answers with one of its
classes, also for an image of none of them, and its softmax is not a calibrated probability. Tasks
differ in how well they are recognised, early ones are often worse than the mean accuracy says (the
tables of the run's card show each), and the model knows only what its images show, with whatever
bias they were collected. It was not tested for safety, fairness or robustness. Do not use it for
decisions about people.
"""

CITATION = """\
```bibtex
@inproceedings{tang2024kaizen,
  title     = {Kaizen: Practical Self-Supervised Continual Learning with Continual Fine-Tuning},
  author    = {Tang, Chi Ian and Qendro, Lorena and Spathis, Dimitris and Kawsar, Fahim and
               Mascolo, Cecilia and Mathur, Akhil},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision (WACV)},
  year      = {2024},
  note      = {arXiv:2303.17235}
}
```
"""

# Run in the model's folder; a test does.
LOADING = """\
With `pip install kaizen-ssl`, from this folder, wherever it lies:

```python
import kaizen

model = kaizen.load(".")  # refuses weights that are not the recorded ones
images = ["cat.png"]  # paths, PIL images, arrays or tensors of any size and mode
names, probabilities = model.predict(images)  # list of str [N], float32 [N, K]
features = model.embed(images)  # float32 [N, F]
```

The K columns stand for `model.classes`, those learnt so far. `kaizen predict . FOLDER` does the
same for folders of images. The weights are
[safetensors](https://github.com/huggingface/safetensors): tensors by name, no code.
"""
