"""How ultralytics learns from few images."""

# A step per batch, statistics that follow, colours left alone: the defaults are made for large datasets.
QUICK = {
    "nbs": 8,
    "warmup_epochs": 1,
    "mosaic": 0,
    "scale": 0.1,
    "translate": 0.05,
    "hsv_h": 0,
    "hsv_s": 0.1,
    "hsv_v": 0.1,
    "cls": 1.0,
    "bn_momentum": 0.1,
}
