"""An artifact whose products can be computed in 8-bit integers, made of one in fp32. No Spark."""
