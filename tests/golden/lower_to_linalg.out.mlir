#map = affine_map<(d0, d1) -> (d0, d1)>
#map1 = affine_map<(d0, d1) -> (d1)>
#map2 = affine_map<(d0, d1) -> (d0)>
#map3 = affine_map<(d0, d1) -> ()>
#map4 = affine_map<(d0, d1) -> (d1, d0)>
#map5 = affine_map<(d0) -> (d0)>
#map6 = affine_map<(d0) -> ()>
module attributes {keras.stage = "linalg"} {
  func.func @main(%arg0: tensor<4x3xf32> {keras.name = "x"}, %arg1: tensor<3x2xf32> {keras.donated = 1 : i64, keras.name = "w"}, %arg2: tensor<2xf32> {keras.donated = 2 : i64, keras.name = "b"}, %arg3: tensor<3x2xf32> {keras.donated = 3 : i64, keras.name = "mw"}, %arg4: tensor<2xf32> {keras.donated = 4 : i64, keras.name = "mb"}, %arg5: tensor<f32> {keras.name = "rate"}) -> (tensor<f32>, tensor<3x2xf32>, tensor<2xf32>, tensor<3x2xf32>, tensor<2xf32>) {
    %0 = "keras.matmul"(%arg0, %arg1) {transpose_a = false, transpose_b = false} : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>
    %1 = tensor.empty() : tensor<4x2xf32>
    %2 = linalg.generic {indexing_maps = [#map, #map1, #map], iterator_types = ["parallel", "parallel"]} ins(%0, %arg2 : tensor<4x2xf32>, tensor<2xf32>) outs(%1 : tensor<4x2xf32>) attrs =  {keras.op = "add"} {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %48 = arith.addf %in, %in_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<4x2xf32>
    %3 = tensor.empty() : tensor<4x2xf32>
    %4 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%2 : tensor<4x2xf32>) outs(%3 : tensor<4x2xf32>) attrs =  {keras.op = "relu"} {
    ^bb0(%in: f32, %out: f32):
      %cst_3 = arith.constant 0.000000e+00 : f32
      %48 = arith.maximumf %in, %cst_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<4x2xf32>
    %5 = tensor.empty() : tensor<4xf32>
    %cst = arith.constant 0xFF800000 : f32
    %6 = linalg.fill ins(%cst : f32) outs(%5 : tensor<4xf32>) -> tensor<4xf32>
    %7 = linalg.generic {indexing_maps = [#map, #map2], iterator_types = ["parallel", "reduction"]} ins(%4 : tensor<4x2xf32>) outs(%6 : tensor<4xf32>) attrs =  {keras.op = "max"} {
    ^bb0(%in: f32, %out: f32):
      %48 = arith.maximumf %out, %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<4xf32>
    %8 = tensor.empty() : tensor<4x2xf32>
    %9 = linalg.generic {indexing_maps = [#map2, #map], iterator_types = ["parallel", "parallel"]} ins(%7 : tensor<4xf32>) outs(%8 : tensor<4x2xf32>) attrs =  {keras.op = "broadcast_in_dim"} {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<4x2xf32>
    %10 = tensor.empty() : tensor<4x2xf32>
    %11 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%4, %9 : tensor<4x2xf32>, tensor<4x2xf32>) outs(%10 : tensor<4x2xf32>) attrs =  {keras.op = "sub"} {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %48 = arith.subf %in, %in_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<4x2xf32>
    %12 = tensor.empty() : tensor<4x2xf32>
    %13 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%11 : tensor<4x2xf32>) outs(%12 : tensor<4x2xf32>) attrs =  {keras.op = "exp"} {
    ^bb0(%in: f32, %out: f32):
      %48 = math.exp %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<4x2xf32>
    %14 = tensor.empty() : tensor<4xf32>
    %cst_0 = arith.constant 0.000000e+00 : f32
    %15 = linalg.fill ins(%cst_0 : f32) outs(%14 : tensor<4xf32>) -> tensor<4xf32>
    %16 = linalg.generic {indexing_maps = [#map, #map2], iterator_types = ["parallel", "reduction"]} ins(%13 : tensor<4x2xf32>) outs(%15 : tensor<4xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: f32, %out: f32):
      %48 = arith.addf %out, %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<4xf32>
    %17 = tensor.empty() : tensor<4x2xf32>
    %18 = linalg.generic {indexing_maps = [#map2, #map], iterator_types = ["parallel", "parallel"]} ins(%16 : tensor<4xf32>) outs(%17 : tensor<4x2xf32>) attrs =  {keras.op = "broadcast_in_dim"} {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<4x2xf32>
    %19 = tensor.empty() : tensor<4x2xf32>
    %20 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%13, %18 : tensor<4x2xf32>, tensor<4x2xf32>) outs(%19 : tensor<4x2xf32>) attrs =  {keras.op = "div"} {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %48 = arith.divf %in, %in_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<4x2xf32>
    %21 = tensor.empty() : tensor<f32>
    %cst_1 = arith.constant 0.000000e+00 : f32
    %22 = linalg.fill ins(%cst_1 : f32) outs(%21 : tensor<f32>) -> tensor<f32>
    %23 = linalg.generic {indexing_maps = [#map, #map3], iterator_types = ["reduction", "reduction"]} ins(%20 : tensor<4x2xf32>) outs(%22 : tensor<f32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: f32, %out: f32):
      %48 = arith.addf %out, %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<f32>
    %24 = tensor.empty() : tensor<4x2xi1>
    %25 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%4 : tensor<4x2xf32>) outs(%24 : tensor<4x2xi1>) attrs =  {keras.op = "gt"} {
    ^bb0(%in: f32, %out: i1):
      %cst_3 = arith.constant 0.000000e+00 : f32
      %48 = arith.cmpf ogt, %in, %cst_3 : f32
      linalg.yield %48 : i1
    } -> tensor<4x2xi1>
    %26 = tensor.empty() : tensor<4x2xf32>
    %27 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%25, %20 : tensor<4x2xi1>, tensor<4x2xf32>) outs(%26 : tensor<4x2xf32>) attrs =  {keras.op = "select"} {
    ^bb0(%in: i1, %in_3: f32, %out: f32):
      %cst_4 = arith.constant 0.000000e+00 : f32
      %48 = arith.select %in, %in_3, %cst_4 : f32
      linalg.yield %48 : f32
    } -> tensor<4x2xf32>
    %28 = tensor.empty() : tensor<2xf32>
    %cst_2 = arith.constant 0.000000e+00 : f32
    %29 = linalg.fill ins(%cst_2 : f32) outs(%28 : tensor<2xf32>) -> tensor<2xf32>
    %30 = linalg.generic {indexing_maps = [#map4, #map2], iterator_types = ["parallel", "reduction"]} ins(%27 : tensor<4x2xf32>) outs(%29 : tensor<2xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: f32, %out: f32):
      %48 = arith.addf %out, %in fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<2xf32>
    %31 = "keras.matmul"(%arg0, %27) {transpose_a = true, transpose_b = false} : (tensor<4x3xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
    %32 = tensor.empty() : tensor<3x2xf32>
    %33 = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg3 : tensor<3x2xf32>) outs(%32 : tensor<3x2xf32>) attrs =  {keras.op = "mul"} {
    ^bb0(%in: f32, %out: f32):
      %cst_3 = arith.constant 0.899999976 : f32
      %48 = arith.mulf %in, %cst_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<3x2xf32>
    %34 = tensor.empty() : tensor<3x2xf32>
    %35 = linalg.generic {indexing_maps = [#map, #map3, #map], iterator_types = ["parallel", "parallel"]} ins(%31, %arg5 : tensor<3x2xf32>, tensor<f32>) outs(%34 : tensor<3x2xf32>) attrs =  {keras.op = "mul"} {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %48 = arith.mulf %in, %in_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<3x2xf32>
    %36 = tensor.empty() : tensor<3x2xf32>
    %37 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%33, %35 : tensor<3x2xf32>, tensor<3x2xf32>) outs(%36 : tensor<3x2xf32>) attrs =  {keras.op = "sub"} {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %48 = arith.subf %in, %in_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<3x2xf32>
    %38 = tensor.empty() : tensor<3x2xf32>
    %39 = linalg.generic {indexing_maps = [#map, #map, #map], iterator_types = ["parallel", "parallel"]} ins(%arg1, %37 : tensor<3x2xf32>, tensor<3x2xf32>) outs(%38 : tensor<3x2xf32>) attrs =  {keras.op = "add"} {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %48 = arith.addf %in, %in_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<3x2xf32>
    %40 = tensor.empty() : tensor<2xf32>
    %41 = linalg.generic {indexing_maps = [#map5, #map5], iterator_types = ["parallel"]} ins(%arg4 : tensor<2xf32>) outs(%40 : tensor<2xf32>) attrs =  {keras.op = "mul"} {
    ^bb0(%in: f32, %out: f32):
      %cst_3 = arith.constant 0.899999976 : f32
      %48 = arith.mulf %in, %cst_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<2xf32>
    %42 = tensor.empty() : tensor<2xf32>
    %43 = linalg.generic {indexing_maps = [#map5, #map6, #map5], iterator_types = ["parallel"]} ins(%30, %arg5 : tensor<2xf32>, tensor<f32>) outs(%42 : tensor<2xf32>) attrs =  {keras.op = "mul"} {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %48 = arith.mulf %in, %in_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<2xf32>
    %44 = tensor.empty() : tensor<2xf32>
    %45 = linalg.generic {indexing_maps = [#map5, #map5, #map5], iterator_types = ["parallel"]} ins(%41, %43 : tensor<2xf32>, tensor<2xf32>) outs(%44 : tensor<2xf32>) attrs =  {keras.op = "sub"} {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %48 = arith.subf %in, %in_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<2xf32>
    %46 = tensor.empty() : tensor<2xf32>
    %47 = linalg.generic {indexing_maps = [#map5, #map5, #map5], iterator_types = ["parallel"]} ins(%arg2, %45 : tensor<2xf32>, tensor<2xf32>) outs(%46 : tensor<2xf32>) attrs =  {keras.op = "add"} {
    ^bb0(%in: f32, %in_3: f32, %out: f32):
      %48 = arith.addf %in, %in_3 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %48 : f32
    } -> tensor<2xf32>
    return %23, %39, %47, %37, %45 : tensor<f32>, tensor<3x2xf32>, tensor<2xf32>, tensor<3x2xf32>, tensor<2xf32>
  }
}
