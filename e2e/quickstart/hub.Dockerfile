# The model hub of the tests with its repositories in it.
ARG BASE
FROM ${BASE}
COPY data /data
