// Tests the emulated NCCL between threads of one process with a device each, and between forked processes.
#include "nccl.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

#include "cuda_bf16.h"
#include "emulation_test.h"

namespace carillon_emulation {
namespace {

#define EXPECT_NCCL(call) EXPECT_EQ(call, ncclSuccess) << #call << ": " << ncclGetLastError(nullptr)

struct Rank {
  int rank, ranks;
  ncclComm_t communicator = nullptr;
  cudaStream_t stream = nullptr;
};

ncclUniqueId new_id() {
  ncclUniqueId id;
  EXPECT_NCCL(ncclGetUniqueId(&id));
  return id;
}

Rank join(int rank, int ranks, const ncclUniqueId& id) {
  Rank r{rank, ranks};
  EXPECT_CUDA(cudaStreamCreateWithFlags(&r.stream, cudaStreamNonBlocking));
  EXPECT_NCCL(ncclCommInitRank(&r.communicator, ranks, id, rank));
  return r;
}

void leave(Rank& r) {
  EXPECT_NCCL(ncclCommDestroy(r.communicator));
  EXPECT_CUDA(cudaStreamDestroy(r.stream));
}

// Runs every rank as a thread with its own device.
void among_threads(int ranks, const std::function<void(Rank&)>& body) {
  const ncclUniqueId id = new_id();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      EXPECT_CUDA(cudaSetDevice(rank));
      Rank r = join(rank, ranks, id);
      body(r);
      leave(r);
    });
  for (std::thread& thread : threads) thread.join();
}

// Runs every rank as a process; the test fails if one of them fails or is killed.
void among_processes(int ranks, const std::function<void(Rank&)>& body) {
  cudaDeviceReset();  // a process may not use devices that its parent used
  const ncclUniqueId id = new_id();
  std::vector<pid_t> processes;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t process = fork();
    if (process == 0) {
      EXPECT_CUDA(cudaSetDevice(rank));
      Rank r = join(rank, ranks, id);
      body(r);
      leave(r);
      _exit(testing::Test::HasFailure() ? 1 : 0);
    }
    processes.push_back(process);
  }
  for (const pid_t process : processes) {
    int status = 0;
    waitpid(process, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "status " << status;
  }
}

std::vector<float> numbers(int rank, std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>((rank + 1) * 100) + static_cast<float>(i % 97);
  return values;
}

// All collectives, with small integers, which are exact in float32.
void every_collective(Rank& r) {
  const std::size_t n = static_cast<std::size_t>(r.ranks), count = 100003;  // more than a channel holds
  const int sum_of_ranks = r.ranks * (r.ranks + 1) / 2 * 100;
  const auto expected_sum = [&](std::size_t i) { return static_cast<float>(sum_of_ranks + r.ranks * int(i % 97)); };
  float* mine = on_device(numbers(r.rank, count));
  float *sum = nullptr, *all = nullptr, *part = nullptr;
  EXPECT_CUDA(cudaMalloc(&sum, count * sizeof(float)));
  EXPECT_CUDA(cudaMalloc(&all, n * count * sizeof(float)));
  EXPECT_CUDA(cudaMalloc(&part, count * sizeof(float)));

  EXPECT_NCCL(ncclAllReduce(mine, sum, count, ncclFloat32, ncclSum, r.communicator, r.stream));
  EXPECT_NCCL(ncclAllGather(mine, all, count, ncclFloat32, r.communicator, r.stream));
  EXPECT_NCCL(ncclReduceScatter(all, part, count, ncclFloat32, ncclSum, r.communicator, r.stream));
  EXPECT_CUDA(cudaStreamSynchronize(r.stream));

  const std::vector<float> sums = to_host(sum, count), gathered = to_host(all, n * count), parts = to_host(part, count);
  const std::vector<float> of_last = numbers(r.ranks - 1, count);
  for (std::size_t i = 0; i < count; ++i) {
    ASSERT_EQ(sums[i], expected_sum(i)) << i;
    ASSERT_EQ(gathered[(n - 1) * count + i], of_last[i]) << i;
    // All ranks gathered the same data, so the scattered sum is `ranks` times this rank's part.
    ASSERT_EQ(parts[i], static_cast<float>(r.ranks) * gathered[static_cast<std::size_t>(r.rank) * count + i]) << i;
  }

  // The ring: a send and a receive in one group.
  EXPECT_NCCL(ncclGroupStart());
  EXPECT_NCCL(ncclSend(mine, count, ncclFloat32, (r.rank + 1) % r.ranks, r.communicator, r.stream));
  EXPECT_NCCL(ncclRecv(part, count, ncclFloat32, (r.rank + r.ranks - 1) % r.ranks, r.communicator, r.stream));
  EXPECT_NCCL(ncclGroupEnd());
  // Broadcasts from every root in one group, and a reduction to the last rank.
  EXPECT_NCCL(ncclGroupStart());
  for (int root = 0; root < r.ranks; ++root)
    EXPECT_NCCL(ncclBroadcast(mine, all + static_cast<std::size_t>(root) * count, 1 + static_cast<std::size_t>(root),
                              ncclFloat32, root, r.communicator, r.stream));
  EXPECT_NCCL(ncclReduce(mine, sum, count, ncclFloat32, ncclMax, r.ranks - 1, r.communicator, r.stream));
  EXPECT_NCCL(ncclGroupEnd());
  EXPECT_EQ(to_host(part, count), numbers((r.rank + r.ranks - 1) % r.ranks, count));
  for (int root = 0; root < r.ranks; ++root)
    EXPECT_EQ(to_host(all + static_cast<std::size_t>(root) * count + root, 1)[0],
              numbers(root, count)[static_cast<std::size_t>(root)]);
  if (r.rank == r.ranks - 1) {
    EXPECT_EQ(to_host(sum, count), numbers(r.ranks - 1, count));
  }
}

// bfloat16 in place: adds in float32 and rounds once. The 2^-9 added to 1 are lost only if partial sums are rounded.
void bfloat16_in_place(Rank& r) {
  const __nv_bfloat16 value = __float2bfloat16_rn(r.rank == 0 ? 1.0f : 0.001953125f);
  __nv_bfloat16* x = on_device(std::vector<__nv_bfloat16>(5, value));
  EXPECT_NCCL(ncclAllReduce(x, x, 5, ncclBfloat16, ncclSum, r.communicator, r.stream));
  const float expected = __bfloat162float(__float2bfloat16_rn(1.0f + 0.001953125f * static_cast<float>(r.ranks - 1)));
  for (const __nv_bfloat16 v : to_host(x, 5)) EXPECT_EQ(__bfloat162float(v), expected);
}

// A grid of 2 x 2: rows and columns by two splits.
void splits(Rank& r) {
  ncclComm_t row = nullptr, column = nullptr, none = nullptr;
  EXPECT_NCCL(ncclCommSplit(r.communicator, r.rank / 2, r.rank, &row, nullptr));
  EXPECT_NCCL(ncclCommSplit(r.communicator, r.rank % 2, -r.rank, &column, nullptr));
  EXPECT_NCCL(ncclCommSplit(r.communicator, r.rank == 0 ? NCCL_SPLIT_NOCOLOR : 0, 0, &none, nullptr));
  int rank = -1, count = 0;
  EXPECT_NCCL(ncclCommUserRank(column, &rank));
  EXPECT_NCCL(ncclCommCount(column, &count));
  EXPECT_EQ(rank, 1 - r.rank / 2);  // keys reverse the order
  EXPECT_EQ(count, 2);
  EXPECT_EQ(none == nullptr, r.rank == 0);
  std::int64_t* x = on_device(std::vector<std::int64_t>{r.rank});
  EXPECT_NCCL(ncclAllReduce(x, x, 1, ncclInt64, ncclSum, row, r.stream));
  EXPECT_NCCL(ncclAllReduce(x, x, 1, ncclInt64, ncclSum, column, r.stream));
  EXPECT_EQ(to_host(x, 1)[0], 6);
  for (ncclComm_t c : {row, column, none}) EXPECT_NCCL(ncclCommDestroy(c));
}

class Nccl : public Emulation {};

TEST_F(Nccl, CollectivesAmongThreads) { among_threads(3, every_collective); }
TEST_F(Nccl, CollectivesAmongThreadsInAnUnfavourableOrder) {
  for (const char* seed : {"0", "1", "7"}) {
    use_mode(std::string("streams=adversarial:") + seed);
    among_threads(2, every_collective);
  }
}
TEST_F(Nccl, CollectivesAmongProcesses) { among_processes(3, every_collective); }
TEST_F(Nccl, Bfloat16RoundsOnce) { among_threads(4, bfloat16_in_place); }
TEST_F(Nccl, SplitsAmongThreads) { among_threads(4, splits); }
TEST_F(Nccl, SplitsAmongProcesses) { among_processes(4, splits); }

TEST_F(Nccl, CountsBytes) {
  among_threads(2, [](Rank& r) {
    float* x = on_device(std::vector<float>(1000, 1.0f));
    EXPECT_NCCL(ncclAllReduce(x, x, 1000, ncclFloat32, ncclSum, r.communicator, r.stream));
  });
  CarillonEmulationCounters counters;
  carillon_emulation_counters(&counters);
  EXPECT_EQ(counters.nccl_operations, 2u);
  EXPECT_EQ(counters.nccl_sent_bytes, 2u * 4000u);  // 2 (n - 1) / n of the bytes on each rank
}

// Host buffers and buffers that are too small are refused.
TEST_F(Nccl, RefusesWhatIsNoDeviceMemory) {
  among_threads(1, [](Rank& r) {
    std::vector<float> host(4);
    float* x = on_device(host);
    EXPECT_EQ(ncclAllReduce(host.data(), x, 4, ncclFloat32, ncclSum, r.communicator, r.stream), ncclInvalidArgument);
    EXPECT_EQ(ncclAllReduce(x, x, 100, ncclFloat32, ncclSum, r.communicator, r.stream), ncclInvalidArgument);
  });
}

ncclResult_t state_of(ncclComm_t c) {
  ncclResult_t state = ncclInProgress;
  EXPECT_NCCL(ncclCommGetAsyncError(c, &state));
  return state;
}

// An operation of a non-blocking communicator is queued on the stream only once the state is ncclSuccess.
TEST_F(Nccl, NonBlockingCallsBeginLater) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  cudaStream_t stream;
  ASSERT_CUDA(cudaStreamCreate(&stream));
  ncclComm_t c = nullptr;
  ASSERT_EQ(ncclCommInitRankConfig(&c, 1, new_id(), 0, &config), ncclInProgress);
  while (state_of(c) == ncclInProgress) usleep(100);
  float *x = on_device(std::vector<float>{7}), *y = on_device(std::vector<float>{0});
  ASSERT_EQ(ncclAllReduce(x, y, 1, ncclFloat32, ncclSum, c, stream), ncclInProgress);
  EXPECT_EQ(ncclAllReduce(x, y, 1, ncclFloat32, ncclSum, c, stream), ncclInvalidArgument);
  EXPECT_EQ(to_host(y, 1)[0], 0);

  while (state_of(c) == ncclInProgress) {
  }

  EXPECT_EQ(to_host(y, 1)[0], 7);
  EXPECT_EQ(ncclCommFinalize(c), ncclInProgress);
  while (state_of(c) == ncclInProgress) {
  }
  EXPECT_NCCL(ncclCommDestroy(c));
}

// A rank is killed: the survivor's operation stays pending, its communicator reports the loss, abort ends the
// operation.
TEST_F(Nccl, ALostRankIsReportedAndAbortEndsTheWait) {
  cudaDeviceReset();
  const ncclUniqueId id = new_id();
  const pid_t other = fork();
  if (other == 0) {
    cudaSetDevice(1);
    join(1, 2, id);
    pause();
  }
  Rank r = join(0, 2, id);
  float* x = on_device(std::vector<float>{1});
  EXPECT_NCCL(ncclAllReduce(x, x, 1, ncclFloat32, ncclSum, r.communicator, r.stream));
  EXPECT_EQ(state_of(r.communicator), ncclSuccess);
  kill(other, SIGKILL);  // not waited for yet, so it is a zombie

  const auto start = std::chrono::steady_clock::now();
  while (state_of(r.communicator) == ncclSuccess &&
         std::chrono::steady_clock::now() - start < std::chrono::seconds(20)) {
    EXPECT_EQ(cudaStreamQuery(r.stream), cudaErrorNotReady);
    usleep(1000);
  }
  EXPECT_EQ(state_of(r.communicator), ncclRemoteError);
  EXPECT_NCCL(ncclCommAbort(r.communicator));
  EXPECT_CUDA(cudaStreamSynchronize(r.stream));
  waitpid(other, nullptr, 0);
}

// A program that only synchronises would wait forever on a real device; here it gets an error.
TEST_F(Nccl, ALostRankWithoutAbortFailsTheDevice) {
  use_mode("patience=0.2");
  const ncclUniqueId id = new_id();
  std::thread other([&] {
    cudaSetDevice(1);
    Rank r = join(1, 2, id);
    EXPECT_NCCL(ncclCommAbort(r.communicator));
  });
  Rank r = join(0, 2, id);
  other.join();
  float* x = on_device(std::vector<float>{1});
  EXPECT_NCCL(ncclAllReduce(x, x, 1, ncclFloat32, ncclSum, r.communicator, r.stream));
  EXPECT_EQ(cudaStreamSynchronize(r.stream), cudaErrorLaunchFailure);
  EXPECT_NE(std::strstr(carillon_emulation_message(), "a GPU would wait for ever"), nullptr);
  EXPECT_NCCL(ncclCommAbort(r.communicator));
}

// NCCL before 2.30 does not accept two ranks on one device, neither threads nor processes.
TEST_F(Nccl, RefusesTwoRanksOnOneDevice) {
  const ncclUniqueId id = new_id();
  std::vector<std::thread> ranks;
  for (const int rank : {0, 1})
    ranks.emplace_back([&id, rank] {
      ncclComm_t c = nullptr;
      EXPECT_EQ(ncclCommInitRank(&c, 2, id, rank), ncclInvalidUsage);
      EXPECT_NCCL(ncclCommAbort(c));
    });
  for (std::thread& rank : ranks) rank.join();
}

// A rank that dies before the communicator is made ends the others' wait.
TEST_F(Nccl, ARankLostWhileStartingIsAnError) {
  cudaDeviceReset();
  const ncclUniqueId id = new_id();
  const pid_t other = fork();
  if (other == 0) {
    std::thread([&] { join(1, 3, id); }).detach();  // of three, so it never ends
    usleep(300000);
    _exit(0);
  }
  ncclComm_t c = nullptr;
  EXPECT_EQ(ncclCommInitRank(&c, 3, id, 0), ncclRemoteError);
  EXPECT_NCCL(ncclCommAbort(c));
  waitpid(other, nullptr, 0);
}

}  // namespace
}  // namespace carillon_emulation
