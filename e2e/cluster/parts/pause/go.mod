module modelops.dev/e2e/cluster/parts/pause

go 1.26.0
