"""Models that were trained elsewhere, turned into artifacts. No Spark, no TensorFlow."""
