"""Figures that the Aria paper (arXiv:2605.16181) prints, to be held against the identities that they must obey."""

# Table 1: LDS and R1, R2:5, c, κ̄ of four methods on a symbolic model, 5000 segments × 178 queries.
TABLE_1 = {
    "TRAK10": (0.318, 0.047, 0.067, 0.0002, 0.022),
    "TracIn": (0.149, 0.102, 0.229, 0.037, 0.106),
    "GradCos": (0.112, 0.137, 0.241, 0.038, 0.123),
    "GradDot": (0.089, 0.147, 0.238, 0.035, 0.129),
}

# Tables 2 and 11: R1, R2:5, c, κ̄ of fifteen settings on an audio model.
TABLE_2 = {
    "Trak S": (0.282, 0.098, 0.175, 0.076),
    "Trak C": (0.993, 0.004, 0.022, 0.991),
    "Trak F": (0.772, 0.208, 0.002, 0.641),
    "FactGraSS S": (0.006, 0.018, 0.000, 0.012),
    "FactGraSS C": (0.051, 0.030, 0.001, 0.046),
    "FactGraSS F": (0.866, 0.081, 0.000, 0.663),
    "Grad-Cos S": (0.413, 0.419, 0.216, 0.374),
    "Grad-Cos C": (1.000, 0.000, 1.000, 0.997),
    "Grad-Cos F": (0.793, 0.200, 0.015, 0.736),
    "LoGra S": (0.008, 0.017, 0.000, 0.013),
    "LoGra C": (0.057, 0.038, 0.006, 0.049),
    "LoGra F": (0.223, 0.065, 0.000, 0.272),
    "CLAP": (0.924, 0.054, 0.801, 0.584),
    "CLEWS": (0.607, 0.141, 0.406, 0.280),
    "MERT": (0.437, 0.375, 0.002, 0.358),
}

# Table 12: queries, mean z, Pos and Sig in percent by genre, for TRAK's fine stage and harmony at one K.
TABLE_12 = {
    "Classical": (87, 1.451, 98.9, 26.4),
    "Folk": (293, 1.357, 96.9, 20.8),
    "International": (123, 1.343, 97.6, 13.0),
    "Instrumental": (287, 1.320, 95.8, 20.2),
    "Old-Time / Historic": (54, 1.290, 92.6, 20.4),
    "Pop": (194, 1.248, 94.3, 18.6),
    "Rock": (1325, 1.241, 94.3, 16.6),
    "Hip-Hop": (312, 1.222, 94.6, 16.0),
    "Electronic": (804, 1.166, 89.9, 16.4),
    "Spoken": (28, 1.151, 96.4, 10.7),
    "Experimental": (20, 1.140, 90.0, 15.0),
    "Jazz": (46, 1.068, 91.3, 8.7),
    "Soul-R&B": (32, 1.057, 87.5, 18.8),
}

# Table 9: hours, GPU-hours of four methods, and the totals that the paper gives.
TABLE_9 = {"Trak": (22, 75), "FactGraSS": (14, 50), "Grad-Cos": (29, 110), "LoGra": (19, 74)}
TABLE_9_TOTAL = (84, 309)

# Table 3: max |corr| and distributed alignment of the first axis with rhythm, harmony, timbre.
TABLE_3 = {
    "CLAP": ((0.186, 0.243), (0.306, 0.361), (0.245, 0.493)),
    "CLEWS": ((0.117, 0.143), (0.143, 0.233), (0.333, 0.453)),
    "MERT": ((0.231, 0.316), (0.482, 0.680), (0.780, 0.896)),
}
