#include "model/gradient_step.h"

namespace carillon {

StepSums accumulate_gradients(Network& network, ProcessGrid& grid, int64_t micro_steps,
                              const std::function<const MicroBatch&(int64_t)>& batch) {
  StepSums sums;
  network.optimizer().zero_gradients();
  for (int64_t micro = 0; micro < micro_steps; ++micro) {
    const MicroBatch& local = batch(micro);
    network.optimizer().begin_micro_step(micro + 1 == micro_steps);
    network.transformer().forward_backward(local, network.optimizer().must_accumulate(),
                                           [&](int64_t layer) { network.optimizer().group_done(layer); });
    network.optimizer().after_micro_step();
    sums.loss += network.transformer().weighted_loss();
    for (const double weight : local.target_weight.span<double>()) {
      sums.weight += weight;
      sums.targets += weight != 0;
    }
  }
  double numbers[] = {sums.loss, sums.weight};
  grid.dp_cp->all_reduce(Tensor(numbers, DType::kFloat64, {2}), Reduction::kSum);
  sums.loss = numbers[0], sums.weight = numbers[1];
  sums.targets = grid.dp_cp->sum(sums.targets);
  return sums;
}

}  // namespace carillon
