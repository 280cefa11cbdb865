"""Making, from an artifact in fp32, one whose matrix products can be computed in 8-bit integers. No Spark."""
