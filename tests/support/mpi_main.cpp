// main() of tests under mpirun: every rank runs every test; failures are printed with their rank, and the run fails on
// all ranks if it fails on one.
#include <gtest/gtest.h>

#include <cstdio>

#include "parallel/transport/mpi_environment.h"
#include "tests/support/mpi_world.h"

namespace carillon::testing {
namespace {

MpiEnvironment* environment = nullptr;

class RankPrinter : public ::testing::EmptyTestEventListener {
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed())
      std::fprintf(stderr, "[rank %d] %s:%d: %s\n", environment->rank(), result.file_name() ? result.file_name() : "?",
                   result.line_number(), result.summary());
  }
};

}  // namespace

std::unique_ptr<Communicator> mpi_world() { return environment->world(); }

}  // namespace carillon::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  carillon::MpiEnvironment environment;
  carillon::testing::environment = &environment;
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  if (environment.rank() != 0) delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new carillon::testing::RankPrinter);
  const int failed = RUN_ALL_TESTS();
  return environment.world()->max(int64_t{failed != 0}) != 0;
}
