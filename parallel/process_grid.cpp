#include "parallel/process_grid.h"

namespace carillon {

void require_ranks(GridShape shape, int ranks) {
  if (shape.data >= 1 && shape.context >= 1 && shape.tensor >= 1 && shape.size() == ranks) return;
  fail(ExitCode::kUsage,
       "parallel.data {} · parallel.context {} · parallel.tensor {} = {} ranks, but {} were started, in the "
       "configuration, "
       "start {} ranks or leave parallel.data at auto",
       shape.data, shape.context, shape.tensor, shape.size(), ranks, shape.size());
}

ProcessGrid make_process_grid(std::unique_ptr<Communicator> world, GridShape shape, int kv_replicas) {
  require_ranks(shape, world->size());
  CHECK(kv_replicas >= 1 && shape.tensor % kv_replicas == 0, "replicas divide the tensor axis", kv_replicas,
        shape.tensor);
  ProcessGrid grid;
  grid.shape = shape;
  const int rank = world->rank();
  grid.tp_rank = rank % shape.tensor;
  grid.cp_rank = rank / shape.tensor % shape.context;
  grid.dp_rank = rank / (shape.tensor * shape.context);
  grid.dp = world->split(grid.cp_rank * shape.tensor + grid.tp_rank, grid.dp_rank, "dp");
  grid.cp = world->split(grid.dp_rank * shape.tensor + grid.tp_rank, grid.cp_rank, "cp");
  grid.tp = world->split(grid.dp_rank * shape.context + grid.cp_rank, grid.tp_rank, "tp");
  grid.dp_cp = world->split(grid.tp_rank, grid.dp_rank * shape.context + grid.cp_rank, "dp_cp");
  grid.kv_replicas = grid.tp->split(grid.tp_rank / kv_replicas, grid.tp_rank, "kv_replicas");
  grid.world = std::move(world);
  return grid;
}

}  // namespace carillon
