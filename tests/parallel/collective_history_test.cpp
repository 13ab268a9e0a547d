// Ranks that call different collectives are detected by a stamp on every small collective, or at the end of the step.
#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "parallel/transport/thread_communicator.h"
#include "runtime/error.h"
#include "tests/support/mpi_world.h"

namespace carillon::testing {
namespace {

constexpr int64_t kMany = 4096;  // numbers: too large to carry a stamp

// The calls of rank 0 and of rank 1 within a step, before the step's end.
struct Case {
  const char* name;
  std::function<void(Communicator&)> first, second;
};

void reduce(Communicator& group, DType dtype, int64_t count) {
  std::vector<double> memory(static_cast<size_t>(count), 0);
  group.all_reduce(Tensor(memory.data(), dtype, {count}), Reduction::kSum);
}
void gather(Communicator& group, int64_t rows) {
  std::vector<double> own(static_cast<size_t>(rows), 1), all(static_cast<size_t>(rows * group.size()));
  group.all_gather(Tensor::of(all, {rows * group.size()}), Tensor::of(own, {rows}));
}

std::vector<Case> cases() {
  return {
      {"another type", [](Communicator& g) { reduce(g, DType::kInt64, 4); },
       [](Communicator& g) { reduce(g, DType::kFloat64, 4); }},
      {"another type, large", [](Communicator& g) { reduce(g, DType::kInt64, kMany); },
       [](Communicator& g) { reduce(g, DType::kFloat64, kMany); }},
      {"another count", [](Communicator& g) { reduce(g, DType::kInt64, 4); },
       [](Communicator& g) { reduce(g, DType::kInt64, 5); }},
      {"fewer", [](Communicator& g) { reduce(g, DType::kInt64, 5); },
       [](Communicator& g) { reduce(g, DType::kInt64, 4); }},
      {"one too many", [](Communicator& g) { reduce(g, DType::kInt64, 4); },
       [](Communicator& g) {
         reduce(g, DType::kInt64, 4);
         reduce(g, DType::kInt64, 4);
       }},
      {"one left out",
       [](Communicator& g) {
         reduce(g, DType::kInt64, 2);
         gather(g, 3);
       },
       [](Communicator& g) { gather(g, 3); }},
      {"another order",
       [](Communicator& g) {
         gather(g, 3);
         reduce(g, DType::kFloat64, 3);
       },
       [](Communicator& g) {
         reduce(g, DType::kFloat64, 3);
         gather(g, 3);
       }},
      {"a barrier for a sum", [](Communicator& g) { g.barrier(); },
       [](Communicator& g) { reduce(g, DType::kInt64, 1); }},
      {"another reduction",
       [](Communicator& g) {
         int64_t one = 1;
         g.all_reduce(Tensor(&one, DType::kInt64, {1}), Reduction::kSum);
       },
       [](Communicator& g) {
         int64_t one = 1;
         g.all_reduce(Tensor(&one, DType::kInt64, {1}), Reduction::kMax);
       }},
  };
}

TEST(CollectiveHistory, EqualOnesPass) {
  auto world = mpi_world();
  for (int step = 0; step < 3; ++step) {
    reduce(*world, DType::kFloat64, kMany);
    gather(*world, 3);
    gather(*world, kMany);
    world->barrier();
    world->compare_histories();
  }
}

TEST(CollectiveHistory, DifferentOnesAreFoundInTheSameStep) {
  if (mpi_world()->size() != 2) GTEST_SKIP() << "two ranks";
  for (const Case& each : cases()) {
    auto world = mpi_world();  // the previous one is out of step now
    try {
      (world->rank() == 0 ? each.first : each.second)(*world);
      world->compare_histories();
      FAIL() << each.name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kInternal) << each.name << ": " << error.what();
      EXPECT_NE(std::string(error.what()).find("different collectives"), std::string::npos) << error.what();
    }
    (void)world.release();  // messages may still be in flight on it
  }
}

TEST(CollectiveHistory, AMessageTooManyIsFound) {
  auto world = mpi_world();
  if (world->size() != 2) GTEST_SKIP() << "two ranks";
  const int other = 1 - world->rank();
  double mine = 7, theirs = 0;
  const Tensor send(&mine, DType::kFloat64, {1}), receive(&theirs, DType::kFloat64, {1});
  world->start_exchange(send, other, receive, other)->wait();
  world->compare_histories();
  EXPECT_EQ(theirs, 7);
}

TEST(CollectiveHistory, RanksThatAreThreads) {
  // The sizes are the same, so the threads meet; only the meaning of the numbers differs.
  try {
    run_ranks(2, [](std::unique_ptr<Communicator> group) {
      reduce(*group, group->rank() == 0 ? DType::kInt64 : DType::kFloat64, 4);
      group->compare_histories();
    });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInternal) << error.what();
  }
}

}  // namespace
}  // namespace carillon::testing
