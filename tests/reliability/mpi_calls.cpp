// A library for LD_PRELOAD that makes the N-th MPI call of one rank go wrong. Its variables:
//   MPI_FAULT_RANK     the rank
//   MPI_FAULT_CALLS    which calls count, separated by commas (default: all): init, finalize, barrier, broadcast,
//                      gather, send, receive, wait
//   MPI_FAULT_AT       the number of the call, from 1
//   MPI_FAULT_ACTION   stop (SIGSTOP), spin (forever), sleep (MPI_FAULT_SECONDS), kill, segv, exit, skip (the call does
//                      nothing and reports success), twice (the call is made twice), less (half the bytes)
//   MPI_FAULT_STAMP    a file that receives the time of the fault, in seconds of CLOCK_MONOTONIC
#include <dlfcn.h>
#include <mpi.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

enum class Way { kOnce, kNone, kTwice, kLess };

Way meet(const char* call) {
  static const bool here =
      !variable("MPI_FAULT_RANK").empty() && variable("MPI_FAULT_RANK") == variable("OMPI_COMM_WORLD_RANK");
  static const std::string calls = variable("MPI_FAULT_CALLS"), action = variable("MPI_FAULT_ACTION");
  static const long at = std::atol(variable("MPI_FAULT_AT").c_str());
  static long number = 0;
  if (!here || (!calls.empty() && ("," + calls + ",").find("," + std::string(call) + ",") == std::string::npos))
    return Way::kOnce;
  if (++number != at) return Way::kOnce;
  if (const std::string path = variable("MPI_FAULT_STAMP"); !path.empty()) {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    if (std::FILE* file = std::fopen(path.c_str(), "w")) {
      std::fprintf(file, "%ld.%09ld %d %s\n", time.tv_sec, time.tv_nsec, getpid(), call);
      std::fclose(file);
    }
  }
  if (action == "stop") kill(getpid(), SIGSTOP);
  if (action == "kill") kill(getpid(), SIGKILL);
  if (action == "segv") kill(getpid(), SIGSEGV);
  if (action == "exit") std::exit(0);
  if (action == "sleep") usleep(static_cast<useconds_t>(1e6 * std::atof(variable("MPI_FAULT_SECONDS").c_str())));
  if (action == "spin")
    for (volatile bool on = true; on;) {
    }
  if (action == "skip") return Way::kNone;
  if (action == "twice") return Way::kTwice;
  if (action == "less") return Way::kLess;
  return Way::kOnce;
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

template <class Call>
int carry_out(Way way, Call call) {
  if (way == Way::kNone) return MPI_SUCCESS;
  if (way == Way::kTwice) call(false);
  return call(way == Way::kLess);
}

}  // namespace

#define REAL(name) static const auto real = next<decltype(&name)>(#name)

extern "C" {

int MPI_Init_thread(int* count, char*** arguments, int wanted, int* provided) {
  REAL(MPI_Init_thread);
  meet("init");
  return real(count, arguments, wanted, provided);
}
int MPI_Finalize() {
  REAL(MPI_Finalize);
  meet("finalize");
  return real();
}
int MPI_Barrier(MPI_Comm group) {
  REAL(MPI_Barrier);
  return carry_out(meet("barrier"), [&](bool) { return real(group); });
}
int MPI_Bcast(void* data, int count, MPI_Datatype type, int root, MPI_Comm group) {
  REAL(MPI_Bcast);
  return carry_out(meet("broadcast"),
                   [&](bool less) { return real(data, less ? count / 2 : count, type, root, group); });
}
int MPI_Allgatherv(const void* own, int count, MPI_Datatype type, void* all, const int* counts, const int* begin,
                   MPI_Datatype all_type, MPI_Comm group) {
  REAL(MPI_Allgatherv);
  return carry_out(meet("gather"), [&](bool less) {
    return real(own, less ? count / 2 : count, type, all, counts, begin, all_type, group);
  });
}
int MPI_Isend(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm group, MPI_Request* request) {
  REAL(MPI_Isend);
  const Way way = meet("send");
  if (way == Way::kNone) *request = MPI_REQUEST_NULL;
  return carry_out(way, [&](bool less) { return real(data, less ? count / 2 : count, type, to, tag, group, request); });
}
int MPI_Irecv(void* data, int count, MPI_Datatype type, int from, int tag, MPI_Comm group, MPI_Request* request) {
  REAL(MPI_Irecv);
  const Way way = meet("receive");
  if (way == Way::kNone) *request = MPI_REQUEST_NULL;
  return carry_out(way, [&](bool) { return real(data, count, type, from, tag, group, request); });
}
int MPI_Waitall(int count, MPI_Request* requests, MPI_Status* statuses) {
  REAL(MPI_Waitall);
  return carry_out(meet("wait"), [&](bool) { return real(count, requests, statuses); });
}

}  // extern "C"
