"""The kernels of `kaizen.models.gpu_norm`, in CUDA C++.

Maps are bfloat16 [rows, channels], that is channels-last. A thread has eight channels of every
``lanes``-th row of a chunk, so it reads 16 bytes at a time and keeps its channels' numbers in
registers. ``blockIdx.y`` is the group of rows, each with statistics of its own. Sums are taken in
float32 within a block, about the first row of the group, in double between blocks, and always in
the same order.
"""

SOURCE = r"""
typedef unsigned int u32;

__device__ __forceinline__ void unpack(const uint4 packed, float* values) {
    const u32 words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        values[2 * i] = __uint_as_float(words[i] << 16);
        values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

__device__ __forceinline__ uint4 pack(const float* values) {
    u32 words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
            : "=r"(words[i]) : "f"(values[2 * i + 1]), "f"(values[2 * i]));
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

/* Adds up first and second over the block's lanes, in their order, into partial [2, channels]. */
__device__ __forceinline__ void add_up(
    const float* first, const float* second, float* partial, int columns, int lanes
) {
    extern __shared__ float shared[];
    const int channels = 8 * columns, column = threadIdx.x % columns;
    float* own = shared + (threadIdx.x / columns) * 2 * channels;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        own[8 * column + i] = first[i];
        own[channels + 8 * column + i] = second[i];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * channels; i += blockDim.x) {
        float sum = 0.f;
        for (int lane = 0; lane < lanes; ++lane) sum += shared[lane * 2 * channels + i];
        partial[i] = sum;
    }
}

/* partial [groups, chunks, 2, channels]: the sums of x - k and (x - k)^2, k the first row. */
extern "C" __global__ void __launch_bounds__(256, 4) statistics(
    const uint4* __restrict__ x, float* __restrict__ partial, int rows, int columns, int chunk
) {
    const int column = threadIdx.x % columns, lane = threadIdx.x / columns;
    const int lanes = blockDim.x / columns, channels = 8 * columns;
    const uint4* group = x + (size_t)blockIdx.y * rows * columns + column;
    float about[8], sum[8], square[8];
    unpack(group[0], about);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] = square[i] = 0.f;
    const int end = min((int)(blockIdx.x + 1) * chunk, rows);
#pragma unroll 4
    for (int row = blockIdx.x * chunk + lane; row < end; row += lanes) {
        float values[8];
        unpack(group[(size_t)row * columns], values);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const float off = values[i] - about[i];
            sum[i] += off;
            square[i] = fmaf(off, off, square[i]);
        }
    }
    add_up(sum, square,
           partial + ((size_t)blockIdx.y * gridDim.x + blockIdx.x) * 2 * channels,
           columns, lanes);
}

/* The two sums of one channel over the chunks, for threadIdx.x / 8 == 0; 8 channels in a block. */
__device__ __forceinline__ void total(
    const float* partial, int channel, int channels, int chunks, double* first, double* second
) {
    __shared__ double sums[2][32][8];
    const int at = threadIdx.x % 8, lane = threadIdx.x / 8;
    double one = 0, two = 0;
    for (int chunk = lane; chunk < chunks; chunk += 32) {
        one += partial[(size_t)chunk * 2 * channels + channel];
        two += partial[(size_t)chunk * 2 * channels + channels + channel];
    }
    __syncthreads();
    sums[0][lane][at] = one;
    sums[1][lane][at] = two;
    __syncthreads();
    one = two = 0;
    if (lane == 0) {
        for (int i = 0; i < 32; ++i) {
            one += sums[0][i][at];
            two += sums[1][i][at];
        }
    }
    *first = one;
    *second = two;
}

/* numbers [groups, 4, channels]: mean, 1 / deviation, scale and shift; moves the running ones. */
extern "C" __global__ void __launch_bounds__(256) settle(
    const uint4* __restrict__ x, const float* __restrict__ partial,
    const float* __restrict__ weight, const float* __restrict__ bias,
    float* running_mean, float* running_variance, float* __restrict__ numbers,
    int rows, int channels, int chunks, int groups, float momentum, float eps
) {
    const int channel = blockIdx.x * 8 + threadIdx.x % 8;
    for (int group = 0; group < groups; ++group) {
        double sum, square;
        total(partial + (size_t)group * chunks * 2 * channels, channel, channels, chunks,
              &sum, &square);
        if (threadIdx.x >= 8) continue;
        const unsigned short first =
            ((const unsigned short*)x)[(size_t)group * rows * channels + channel];
        const double off = sum / rows, mean = __uint_as_float((u32)first << 16) + off;
        double variance = square / rows - off * off;
        if (variance < 0) variance = 0;
        const float inverse = (float)(1.0 / sqrt(variance + (double)eps));
        float* own = numbers + (size_t)group * 4 * channels + channel;
        const float scale = weight[channel] * inverse;
        own[0] = (float)mean;
        own[channels] = inverse;
        own[2 * channels] = scale;
        own[3 * channels] = fmaf(-(float)mean, scale, bias[channel]);
        running_mean[channel] += momentum * ((float)mean - running_mean[channel]);
        const float unbiased = (float)(variance * ((double)rows / (rows - 1)));
        running_variance[channel] += momentum * (unbiased - running_variance[channel]);
    }
}

/* y = x * scale + shift, + other where given, at least 0 where relu. */
extern "C" __global__ void __launch_bounds__(256, 4) normalise(
    const uint4* __restrict__ x, const uint4* __restrict__ other, uint4* __restrict__ y,
    const float* __restrict__ scales, const float* __restrict__ shifts,
    int stride, int rows, int columns, int chunk, int relu
) {
    const int column = threadIdx.x % columns, lanes = blockDim.x / columns;
    const size_t group = (size_t)blockIdx.y * rows * columns + column;
    float scale[8], shift[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const size_t at = (size_t)blockIdx.y * stride + 8 * column + i;
        scale[i] = scales ? scales[at] : 1.f;
        shift[i] = shifts[at];
    }
    const int end = min((int)(blockIdx.x + 1) * chunk, rows);
#pragma unroll 4
    for (int row = blockIdx.x * chunk + threadIdx.x / columns; row < end; row += lanes) {
        const size_t at = group + (size_t)row * columns;
        float values[8], added[8];
        unpack(x[at], values);
        if (other) unpack(other[at], added);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            values[i] = fmaf(values[i], scale[i], shift[i]);
            if (other) values[i] += added[i];
            if (relu && values[i] < 0.f) values[i] = 0.f;
        }
        y[at] = pack(values);
    }
}

/* g where the ReLU let its value pass. kind 0: no ReLU, 1: of x * scale + shift, 2: of y. */
__device__ __forceinline__ void masked(
    float* g, const float* x, const float* y, const float* scale, const float* shift, int kind
) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const float value = kind == 1 ? fmaf(x[i], scale[i], shift[i]) : y[i];
        if (kind && value <= 0.f) g[i] = 0.f;
    }
}

/* partial [groups, chunks, 2, channels]: the sums of g and g * (x - mean), g after the ReLU. */
extern "C" __global__ void __launch_bounds__(256, 2) backward_sums(
    const uint4* __restrict__ gradient, const uint4* __restrict__ x, const uint4* __restrict__ y,
    const float* __restrict__ numbers, float* __restrict__ partial,
    int rows, int columns, int chunk, int kind
) {
    const int column = threadIdx.x % columns, lanes = blockDim.x / columns;
    const int channels = 8 * columns;
    const size_t group = (size_t)blockIdx.y * rows * columns + column;
    const float* own = numbers + (size_t)blockIdx.y * 4 * channels + 8 * column;
    float mean[8], scale[8], shift[8], first[8], second[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        mean[i] = own[i];
        scale[i] = own[2 * channels + i];
        shift[i] = own[3 * channels + i];
        first[i] = second[i] = 0.f;
    }
    const int end = min((int)(blockIdx.x + 1) * chunk, rows);
#pragma unroll 4
    for (int row = blockIdx.x * chunk + threadIdx.x / columns; row < end; row += lanes) {
        const size_t at = group + (size_t)row * columns;
        float g[8], values[8], after[8];
        unpack(gradient[at], g);
        unpack(x[at], values);
        if (kind == 2) unpack(y[at], after);
        masked(g, values, after, scale, shift, kind);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            first[i] += g[i];
            second[i] = fmaf(g[i], values[i] - mean[i], second[i]);
        }
    }
    add_up(first, second,
           partial + ((size_t)blockIdx.y * gridDim.x + blockIdx.x) * 2 * channels,
           columns, lanes);
}

/* factors [groups, 3, channels] of g, x and 1 in x's gradient; the gradients of weight and bias. */
extern "C" __global__ void __launch_bounds__(256) backward_settle(
    const float* __restrict__ partial, const float* __restrict__ weight,
    const float* __restrict__ numbers, float* __restrict__ factors,
    float* __restrict__ weight_gradient, float* __restrict__ bias_gradient,
    int rows, int channels, int chunks, int groups
) {
    const int channel = blockIdx.x * 8 + threadIdx.x % 8;
    double of_weight = 0, of_bias = 0;
    for (int group = 0; group < groups; ++group) {
        double sum, product;
        total(partial + (size_t)group * chunks * 2 * channels, channel, channels, chunks,
              &sum, &product);
        if (threadIdx.x >= 8) continue;
        const float* own = numbers + (size_t)group * 4 * channels + channel;
        const double mean = own[0], inverse = own[channels];
        of_bias += sum;
        of_weight += product * inverse;
        const double a = weight[channel] * inverse;
        const double b = -a * inverse * inverse * product / rows;
        float* to = factors + (size_t)group * 3 * channels + channel;
        to[0] = (float)a;
        to[channels] = (float)b;
        to[2 * channels] = (float)(-a * sum / rows - b * mean);
    }
    if (threadIdx.x < 8) {
        weight_gradient[channel] = (float)of_weight;
        bias_gradient[channel] = (float)of_bias;
    }
}

/* x's gradient, and where ``other`` is given that of what was added. */
extern "C" __global__ void __launch_bounds__(256, 2) backward(
    const uint4* __restrict__ gradient, const uint4* __restrict__ x, const uint4* __restrict__ y,
    const float* __restrict__ numbers, const float* __restrict__ factors,
    uint4* __restrict__ result, uint4* __restrict__ other,
    int rows, int columns, int chunk, int kind
) {
    const int column = threadIdx.x % columns, lanes = blockDim.x / columns;
    const int channels = 8 * columns;
    const size_t group = (size_t)blockIdx.y * rows * columns + column;
    const float* own = numbers + (size_t)blockIdx.y * 4 * channels + 8 * column;
    const float* of = factors + (size_t)blockIdx.y * 3 * channels + 8 * column;
    float scale[8], shift[8], a[8], b[8], c[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        scale[i] = own[2 * channels + i];
        shift[i] = own[3 * channels + i];
        a[i] = of[i];
        b[i] = of[channels + i];
        c[i] = of[2 * channels + i];
    }
    const int end = min((int)(blockIdx.x + 1) * chunk, rows);
#pragma unroll 2
    for (int row = blockIdx.x * chunk + threadIdx.x / columns; row < end; row += lanes) {
        const size_t at = group + (size_t)row * columns;
        float g[8], values[8], after[8];
        unpack(gradient[at], g);
        unpack(x[at], values);
        if (kind == 2) unpack(y[at], after);
        masked(g, values, after, scale, shift, kind);
        if (other) other[at] = pack(g);
#pragma unroll
        for (int i = 0; i < 8; ++i) values[i] = fmaf(a[i], g[i], fmaf(b[i], values[i], c[i]));
        result[at] = pack(values);
    }
}
"""
