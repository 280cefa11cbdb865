"""Benchmarks: speed, fidelity and memory, each measured in one run; `python -m benchmarks.<name> --help` says how.

score       texts per second on Spark against the documented recipe, at each precision (make bench)
finetune    fine-tuning against the usual way (make bench)
loops       this project's engine against others, without Spark (make bench-peers)
frameworks  Ray Data, Daft and MLflow (make bench-peers)
picture     a chart of the results of score or loops
gpu         each stage on a GPU, without Spark
peak        the model's operations per second against its matrix products alone
scaling     what Spark costs, and how the rate grows with cores
growth      how time grows with the number of documents and with their length
cold_start  seconds from spark-submit to the first committed documents
planning    seconds, memory and requests of a plan, by the number of files
soak        whether memory grows over an hour
"""
