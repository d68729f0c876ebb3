"""The four terms of the joint loss: their names, in the order of the formula, and what each is.

L = L_FE^CT + lambda_f L_FE^KD + L_C^CT + lambda_c L_C^KD. The names are the paper's: FE feature
extractor, C classifier, CT current task, KD knowledge distillation. Without torch, so that the
report can read them too.
"""

from __future__ import annotations

TERM_TEXTS = {
    "L_FE_CT": "self-supervised loss",
    "L_FE_KD": "feature distillation",
    "L_C_CT": "classifier cross-entropy",
    "L_C_KD": "classifier distillation",
}
TERMS = tuple(TERM_TEXTS)
