// All instructions of the kernels that CUDA C++ does not offer: matrix fragments, tensor cores, asynchronous copies,
// the fast power of two; also the one dynamic shared array. The PTX ISA ("Warp-level matrix instructions") defines the
// fragment layouts. tests/cuda_emulation has a header with the same names, which comes first on the include path when
// the kernels are compiled for the CPU. No other file of runtime/cuda contains asm.
//
// Lane l of a warp, g = l / 4, t = l % 4. m16n8k16: register i of A holds row g + 8·(i & 1), columns 2t + 8·(i >> 1)
// and the next (low half first); register i of B rows k = 2t + 8i and the next, column g; element e of C and D row
// g + 8·(e >> 1), column 2t + (e & 1). All 32 lanes must reach ldmatrix and mma together.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

// The shared memory of a block, sized by its launch; kernels divide it up with casts.
extern __shared__ __align__(128) unsigned char shared_memory[];

// Loads four 8x8 matrices of 16-bit elements. Lanes 8j … 8j + 7 pass the 16-byte aligned shared addresses of the rows
// of matrix j; lane l receives row g, columns 2t and 2t + 1 of each matrix j in out[j].
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
// The same with each matrix transposed.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&out)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// d[16, 8] += a[16, 16] · b[16, 8]: bfloat16 in, accumulated in float32.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Copies 16 bytes from global to shared memory without using registers; stores zeros if !valid (`global` must still be
// a valid address to form). Both addresses are 16-byte aligned. The data is present after the wait for its group.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(bytes) : "memory");
}
// Ends a group of this thread's copies.
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all but the newest N groups of this thread have completed; other threads see them after a barrier.
template <int N>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// 2^x, with denormal arguments and results flushed to zero; 2^-inf = 0.
__device__ __forceinline__ float exp2_fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
